"""What makes each alert fire, and what looks like it and does not.

Series are in promtool's notation: `a+bxn` is a, then n times b more, once a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

POD = 'namespace="space",pod="release-0"'
MODEL = f'{POD},model="co2"'
SET = 'namespace="space",statefulset="release"'
WHERE = {"namespace": "space", "pod": "release-0"}
WHAT = {**WHERE, "model": "co2"}
EVERYWHERE = {"namespace": "space", "model": "co2"}
DAY = 86_400


@dataclass(frozen=True)
class Case:
    """An alert: series that make it fire by minute `at`, what it says then, and quiet series."""

    name: str
    at: int
    firing: dict[str, str]
    labels: dict[str, str]
    summary: str
    quiet: tuple[dict[str, str], ...]


def rejected(reason: str, values: str) -> dict[str, str]:
    """Return a series of rows that were not OK."""
    return {f'carousel_rows_rejected_total{{{MODEL},reason="{reason}"}}': values}


def calls(method: str, code: str, values: str) -> dict[str, str]:
    """Return a series of calls."""
    return {f'carousel_rpcs_total{{{POD},method="{method}",code="{code}"}}': values}


def slots(used: str, free: str) -> dict[str, str]:
    """Return the series of slots."""
    return {
        f'carousel_slots{{{MODEL},state="used"}}': used,
        f'carousel_slots{{{MODEL},state="free"}}': free,
    }


def messages(fast: str, every: str) -> dict[str, str]:
    """Return the series of messages, and of those that were fast; a tick's are never slow."""
    return {
        f'carousel_step_seconds_bucket{{{MODEL},phase="total",le="0.25"}}': fast,
        f'carousel_step_seconds_count{{{MODEL},phase="total"}}': every,
        f'carousel_step_seconds_bucket{{{MODEL},phase="run",le="0.25"}}': every,
        f'carousel_step_seconds_count{{{MODEL},phase="run"}}': every,
    }


def ticks(values: str) -> dict[str, str]:
    """Return the series of pieces that were run."""
    return {f"carousel_tick_rows_sum{{{MODEL}}}": values}


def ready(wanted: str, there: str) -> dict[str, str]:
    """Return kube-state-metrics' series of a StatefulSet."""
    return {
        f"kube_statefulset_replicas{{{SET}}}": wanted,
        f"kube_statefulset_status_replicas_ready{{{SET}}}": there,
    }


def device_memory(used: str, free: str) -> dict[str, str]:
    """Return the series of a GPU's memory."""
    return {
        f'carousel_device_memory_bytes{{{POD},state="used"}}': used,
        f'carousel_device_memory_bytes{{{POD},state="free"}}': free,
    }


def captures(values: str) -> dict[str, str]:
    """Return the series of captured graphs."""
    return {f"carousel_graph_captures_total{{{MODEL}}}": values}


def replays(values: str, *, rows: str, steps: str) -> dict[str, str]:
    """Return the series of captured graphs that ran, and of the pieces and steps that did."""
    return {
        f"carousel_graph_replays_total{{{MODEL}}}": values,
        f"carousel_tick_steps_sum{{{MODEL}}}": steps,
        **ticks(rows),
    }


def counted_from_nothing(name: str, summary: str, metric: str) -> Case:
    """Return the case of an alert on a counter that is not there before it is 1."""
    return Case(
        name,
        at=20,
        firing={metric: "_x18 1+0x5"},
        labels=WHAT,
        summary=summary,
        # What happened long ago, and what can happen and did not.
        quiet=({metric: "7+0x40"}, {metric: "_x18 0+0x5"}),
    )


CASES = [
    Case(
        "CarouselDown",
        at=5,
        firing={f"up{{{POD}}}": "1 1 0+0x10"},
        labels=WHERE,
        summary="space/release-0 can't be scraped: it is down, or it never came up.",
        quiet=(
            {f"up{{{POD}}}": "1 1 1 0 1+0x10"},
            {'up{namespace="space",pod="release-redis-0"}': "0+0x10"},
            {'up{namespace="other",pod="release-0"}': "0+0x10"},
        ),
    ),
    Case(
        "CarouselAbsent",
        at=15,  # a series is taken to go on for five minutes
        firing={f"carousel_build_info{{{POD}}}": "1 1 1"},
        labels={"namespace": "space"},
        summary="No server of this release is scraped at all.",
        quiet=({f"carousel_build_info{{{POD}}}": "1+0x20"},),
    ),
    Case(
        "CarouselNotReady",
        at=12,
        firing=ready("3+0x20", "2+0x20"),
        labels={"namespace": "space", "statefulset": "release"},
        summary="space/release has 1 servers too few that are ready.",
        quiet=(ready("3+0x20", "3+0x20"), ready("3+0x20", "3 3 3 2 2 2 3 3 3 2 2 2 3+0x20")),
    ),
    Case(
        "CarouselRestarted",
        at=10,
        firing={f"process_start_time_seconds{{{POD}}}": "100+0x5 400+0x10"},
        labels=WHERE,
        summary="space/release-0 started anew in its place: it crashed, ran out of memory, "
        "or its probe failed.",
        quiet=(
            {f"process_start_time_seconds{{{POD}}}": "100+0x20"},
            # An upgrade: another pod, with another address.
            {
                f'process_start_time_seconds{{{POD},instance="a"}}': "100+0x5",
                f'process_start_time_seconds{{{POD},instance="b"}}': "_x6 400+0x10",
            },
        ),
    ),
    Case(
        "CarouselSessionsNearlyFull",
        at=15,
        firing={
            f'carousel_sessions{{{MODEL},state="live"}}': "500000+0x20",
            f'carousel_sessions{{{MODEL},state="parked"}}': "450000+0x20",
        },
        labels=WHERE,
        summary="space/release-0 has 95% of the sessions that it has room for.",
        quiet=({f'carousel_sessions{{{MODEL},state="live"}}': "890000+0x20"},),
    ),
    Case(
        "CarouselSlotsNearlyFull",
        at=20,
        firing=slots("95+0x30", "5+0x30"),
        labels=WHAT,
        summary="95% of the slots of co2 are in use on space/release-0.",
        quiet=(slots("89+0x30", "11+0x30"),),
    ),
    Case(
        "CarouselEvictions",
        at=40,
        firing={f"carousel_restores_total{{{MODEL}}}": "0+20x50", **ticks("0+100x50")},
        labels=WHAT,
        summary="20% of what co2 ran on space/release-0 had to be brought back first: "
        "there are too few slots.",
        quiet=({f"carousel_restores_total{{{MODEL}}}": "0+5x50", **ticks("0+100x50")},),
    ),
    Case(
        "CarouselRejecting",
        at=15,
        firing={**rejected("BUSY", "0+25x30"), **ticks("0+75x30")},
        labels=WHAT,
        summary="space/release-0 refuses 25% of the rows of co2 as BUSY.",
        quiet=(
            {**rejected("BUSY", "0+1x30"), **ticks("0+1000x30")},
            {**rejected("INVALID", "0+25x30"), **ticks("0+75x30")},
        ),
    ),
    Case(
        "CarouselRefusingCalls",
        at=15,
        firing=calls("Open", "RESOURCE_EXHAUSTED", "0+1x30"),
        labels={**WHERE, "method": "Open"},
        summary="space/release-0 answers Open with RESOURCE_EXHAUSTED.",
        quiet=(calls("Open", "RESOURCE_EXHAUSTED", "5+0x30"), calls("Open", "OK", "0+9x30")),
    ),
    Case(
        "CarouselInternalErrors",
        at=15,
        firing=calls("Step", "INTERNAL", "0+1x30"),
        labels={**WHERE, "method": "Step"},
        summary="space/release-0 answers Step with an error of its own.",
        quiet=(calls("Step", "INVALID_ARGUMENT", "0+9x30"), calls("Step", "INTERNAL", "3+0x30")),
    ),
    Case(
        "CarouselLatencyBudgetFast",
        at=70,
        firing=messages("0+80x90", "0+100x90"),
        labels=EVERYWHERE,
        summary="Messages of co2 are slow: at this rate the 30 days' budget of those above "
        "0.25 s is gone in two days.",
        quiet=(
            messages("0+99x90", "0+100x90"),
            # It was slow, and is not any more.
            messages("0+50x60 3100+100x30", "0+100x90"),
            # Nothing is sent.
            messages("7+0x90", "9+0x90"),
        ),
    ),
    Case(
        "CarouselLatencyBudgetSlow",
        at=400,
        firing=messages("0+92x420", "0+100x420"),
        labels=EVERYWHERE,
        summary="Messages of co2 are slow: at this rate the 30 days' budget of those above "
        "0.25 s is gone in five days.",
        quiet=(messages("0+95x420", "0+100x420"),),
    ),
    Case(
        "CarouselQueueGrowing",
        at=20,
        firing={f"carousel_queue_rows{{{MODEL}}}": "0+500x30"},
        labels=WHAT,
        summary="Rows of co2 come faster than space/release-0 answers them.",
        quiet=(
            {f"carousel_queue_rows{{{MODEL}}}": "0+10x30"},
            {f"carousel_queue_rows{{{MODEL}}}": "20000-500x30"},
        ),
    ),
    Case(
        "CarouselStoreDown",
        at=6,
        firing={f"carousel_store_up{{{POD}}}": "1 1 0+0x10"},
        labels=WHERE,
        summary="space/release-0 can't save sessions: the store does not answer.",
        quiet=({f"carousel_store_up{{{POD}}}": "1 0 1 0 1+0x10"},),
    ),
    Case(
        "CarouselDurableLagging",
        at=10,
        firing={f"carousel_store_waiting_bytes{{{POD}}}": "201326592+0x20"},
        labels=WHERE,
        summary="75% of the room for waiting checkpoints is used on space/release-0: "
        "the store is too slow.",
        quiet=({f"carousel_store_waiting_bytes{{{POD}}}": "100000000+0x20"},),
    ),
    counted_from_nothing(
        "CarouselNumericFaults",
        "co2 made values on space/release-0 that are not finite.",
        next(iter(rejected("NUMERIC_FAULT", ""))),
    ),
    counted_from_nothing(
        "CarouselModelErrors",
        "co2 failed to run on space/release-0.",
        next(iter(rejected("MODEL_ERROR", ""))),
    ),
    counted_from_nothing(
        "CarouselModelRefused",
        "A new version of co2 could not be loaded on space/release-0; the old one serves on.",
        f"carousel_model_load_failures_total{{{MODEL}}}",
    ),
    Case(
        "CarouselCertificateExpiring",
        at=70,
        firing={f"carousel_tls_certificate_expiry_timestamp_seconds{{{POD}}}": f"{5 * DAY}+0x80"},
        labels=WHERE,
        summary="The certificate that space/release-0 serves with ends in 4d 22h 50m 0s.",
        quiet=(
            {f"carousel_tls_certificate_expiry_timestamp_seconds{{{POD}}}": f"{15 * DAY}+0x80"},
        ),
    ),
    Case(
        "CarouselDeviceMemoryNearlyFull",
        at=20,
        firing=device_memory("97+0x30", "3+0x30"),
        labels=WHERE,
        summary="97% of the memory of the GPU of space/release-0 is in use.",
        quiet=(
            device_memory("94+0x30", "6+0x30"),
            # While a new version takes over, both are there.
            device_memory("80+0x10 97+0x5 80+0x15", "20+0x10 3+0x5 20+0x15"),
        ),
    ),
    Case(
        "CarouselGraphsRecaptured",
        at=120,
        firing=captures("0+2x180"),
        labels=WHAT,
        summary="Graphs of co2 are captured over and over on space/release-0: 120 within an hour.",
        quiet=(
            # At the start, and when a bucket is first needed.
            captures("33+0x60 34 34 34 35 35 36+0x60"),
            # A new version, a while ago and just now.
            captures("33+0x70 22 33+0x38 22 33+0x60"),
            # As many as two versions an hour have, at any time.
            captures("0+1x180"),
            # It went on for a while, and has come to rest.
            captures("0+4x100 400+0x80"),
        ),
    ),
    Case(
        "CarouselStepsNotCaptured",
        at=75,
        firing=replays("33+0x90", rows="0+60x90", steps="0+60x90"),
        labels=WHAT,
        summary="Single steps of co2 are not replays of captured graphs on space/release-0.",
        quiet=(
            replays("33+60x90", rows="0+60x90", steps="0+60x90"),
            # Chunks run whole.
            replays("33+0x90", rows="0+60x90", steps="0+600x90"),
            # Nothing runs, and a server without a GPU has no captured graphs.
            replays("33+0x90", rows="7+0x90", steps="7+0x90"),
            {**ticks("0+60x90"), f"carousel_tick_steps_sum{{{MODEL}}}": "0+60x90"},
        ),
    ),
]
