{{/* Envoy's files. Ids are spread over single servers, whose names the headless Service resolves to, so
every Envoy leads the same session to the same server. */}}

{{- define "carousel.envoyFiles" -}}
envoy.yaml: |
  {{- include "carousel.envoyBootstrap" . | nindent 2 }}
{{- if .Values.tls.enabled }}
certificate.yaml: |
  resources:
    - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: certificate
      tls_certificate:
        certificate_chain: {filename: /etc/carousel/tls/tls.crt}
        private_key: {filename: /etc/carousel/tls/tls.key}
        watched_directory: {path: /etc/carousel/tls}
authority.yaml: |
  resources:
    - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: authority
      validation_context:
        trusted_ca: {filename: /etc/carousel/tls/ca.crt}
        watched_directory: {path: /etc/carousel/tls}
{{- end }}
{{- end -}}

{{/* usage: include "carousel.envoySecret" (list NAME) */}}
{{- define "carousel.envoySecret" -}}
{name: {{ . }}, sds_config: {path_config_source: {path: /etc/envoy/{{ . }}.yaml}, resource_api_version: V3}}
{{- end -}}

{{- define "carousel.envoyBootstrap" -}}
node: {id: front-door, cluster: front-door}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
static_resources:
  listeners:
    - name: grpc
      address: {socket_address: {address: {{ ternary "'::'" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}, port_value: 8001}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: grpc
                codec_type: HTTP2
                # A stream lasts as long as its client likes, and may be idle for long.
                stream_idle_timeout: 0s
                http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 10s}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
                    - name: carousel
                      domains: ["*"]
                      routes:
                        - match: {prefix: /}
                          route:
                            cluster: servers
                            timeout: 0s
                            hash_policy: [{header: {header_name: {{ .Values.frontDoor.header }}}}]
                            # What surely never reached a server; all else is for the client to judge.
                            retry_policy: {retry_on: "connect-failure,refused-stream", num_retries: 2}
          {{- if .Values.tls.enabled }}
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: {{ .Values.tls.clientAuth }}
              common_tls_context:
                alpn_protocols: [h2]
                tls_certificate_sds_secret_configs: [{{ include "carousel.envoySecret" "certificate" }}]
                {{- if .Values.tls.clientAuth }}
                validation_context_sds_secret_config: {{ include "carousel.envoySecret" "authority" }}
                {{- end }}
          {{- end }}
    - name: probe
      address: {socket_address: {address: {{ ternary "'::'" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}, port_value: 8002}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: probe
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
                    - name: probe
                      domains: ["*"]
                      routes:
                        - {match: {path: /ready}, direct_response: {status: 200}}
  clusters:
    - name: servers
      cluster_type:
        name: envoy.cluster.dns
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
          dns_refresh_rate: 2s
      lb_policy: {{ .Values.frontDoor.envoy.policy }}
      {{- if eq .Values.frontDoor.envoy.policy "RING_HASH" }}
      ring_hash_lb_config: {minimum_ring_size: 1024}
      {{- end }}
      # A draining server says so at once; the name server says it some seconds later.
      health_checks:
        - timeout: 1s
          interval: 1s
          no_traffic_interval: 1s
          unhealthy_threshold: 1
          healthy_threshold: 1
          grpc_health_check: {}
      ignore_health_on_host_removal: true
      common_lb_config: {healthy_panic_threshold: {value: 0}}
      connect_timeout: 2s
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 10s}}
      load_assignment:
        cluster_name: servers
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ include "carousel.headlessHost" . }}, port_value: 8001}}}
      {{- if .Values.tls.enabled }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: {{ include "carousel.headlessHost" . }}
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificate_sds_secret_configs: [{{ include "carousel.envoySecret" "certificate" }}]
            combined_validation_context:
              default_validation_context:
                match_typed_subject_alt_names:
                  - {san_type: DNS, matcher: {exact: {{ include "carousel.headlessHost" . }}}}
              validation_context_sds_secret_config: {{ include "carousel.envoySecret" "authority" }}
      {{- end }}
{{- end -}}
