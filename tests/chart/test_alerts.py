"""Each alert fires when it should and not otherwise, says what is wrong, and has a runbook."""

from __future__ import annotations

import math

import pytest
import yaml

from tests.chart import tools
from tests.chart.alerts import CASES, POD
from tests.chart.tools import one, promtool, render
from tests.docs.pages import ROOT, anchors

VALUES = {
    "monitoring": {"rules": {"enabled": True}},
    "tls": {"enabled": True, "secretName": "tls"},
    "gpu": {"enabled": True},
}
NAMES = [case.name for case in CASES]


def groups(values):
    return one(render(values), "PrometheusRule")["spec"]


def rules(values):
    return {rule["alert"]: rule for rule in groups(values)["groups"][0]["rules"]}


@pytest.fixture(scope="module")
def rule_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(groups(VALUES)))
    return path


def test_promtool_takes_the_rules(rule_file):
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", rule_file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CASES)} rules found" in done.stdout


def test_every_alert_has_a_case():
    assert set(rules(VALUES)) == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def expected(case):
    rule = rules(VALUES)[case.name]
    annotations = {"summary": case.summary, "runbook_url": rule["annotations"]["runbook_url"]}
    return {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": annotations}


def scenario(name, series, at, alerts):
    """Return one of promtool's tests: `alerts` is all that may fire of this name."""
    # What is scraped is there: without it CarouselAbsent would fire in each.
    known = {f"carousel_build_info{{{POD}}}": f"1+0x{at + 20}"} if name != "CarouselAbsent" else {}
    return {
        "interval": "1m",
        "input_series": [{"series": k, "values": v} for k, v in (known | series).items()],
        "alert_rule_test": [{"eval_time": f"{at}m", "alertname": name, "exp_alerts": list(alerts)}],
    }


def promtool_says(rule_file, folder, scenarios):
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "tests": scenarios}))
    done = promtool("test", "rules", path)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_an_alert_fires(case, rule_file, tmp_path):
    firing = scenario(case.name, case.firing, case.at, [expected(case)])
    code, said = promtool_says(rule_file, tmp_path, [firing])
    assert code == 0, said


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_an_alert_is_quiet_otherwise(case, rule_file, tmp_path):
    """And before its time has come."""
    quiet = [scenario(case.name, series, case.at, []) for series in case.quiet]
    if rules(VALUES)[case.name]["for"] != "0m":
        quiet.append(scenario(case.name, case.firing, 1, []))
    code, said = promtool_says(rule_file, tmp_path, quiet)
    assert code == 0, said


def test_a_quiet_case_that_is_not_would_be_seen(rule_file, tmp_path):
    case = CASES[0]
    wrong = scenario(case.name, case.firing, case.at, [])
    assert promtool_says(rule_file, tmp_path, [wrong])[0] != 0


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_runbook(name):
    page, _, anchor = rules(VALUES)[name]["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / page)


def test_runbooks_are_where_they_were_published():
    values = {"monitoring": {"rules": {"enabled": True, "runbookUrl": "https://wiki/carousel"}}}
    urls = [rule["annotations"]["runbook_url"] for rule in rules(values).values()]
    assert all(url.startswith("https://wiki/carousel#carousel") for url in urls)


def test_thresholds_follow_the_values():
    after = rules(
        {
            "monitoring": {
                "rules": {
                    "enabled": True,
                    "latencySeconds": "0.1",
                    "latencyPercent": 99.9,
                    "queueRows": 7,
                    "certificateDays": 3,
                }
            },
            "server": {"maxSessions": 50, "storeBufferBytes": 4096},
            "tls": {"enabled": True, "secretName": "tls"},
        }
    )
    burn = after["CarouselLatencyBudgetFast"]["expr"]
    assert 'le="0.1"' in burn
    budget = float(burn.split("/ ")[2].split()[0])
    assert math.isclose(budget, 0.001, rel_tol=1e-6)
    assert after["CarouselQueueGrowing"]["expr"].endswith("> 7")
    assert after["CarouselCertificateExpiring"]["expr"].endswith("< 259200")
    assert "/ 50 >" in after["CarouselSessionsNearlyFull"]["expr"]
    assert "/ 4096 >" in after["CarouselDurableLagging"]["expr"]


def test_alerts_on_what_a_release_does_not_have_are_left_out():
    """Without TLS no certificate expires, and without parking slots are always full."""
    plain = {"monitoring": {"rules": {"enabled": True}}, "server": {"parkAfter": 0}}
    assert set(NAMES) - set(rules(plain)) == {
        "CarouselCertificateExpiring",
        "CarouselSlotsNearlyFull",
        "CarouselDeviceMemoryNearlyFull",
        "CarouselGraphsRecaptured",
        "CarouselStepsNotCaptured",
    }


def test_names_with_the_release_are_selected():
    values = {"monitoring": {"rules": {"enabled": True}}, "fullnameOverride": "mine"}
    assert all(
        'pod=~"mine-[0-9]+"' in rule["expr"] or 'statefulset="mine"' in rule["expr"]
        for rule in rules(values).values()
    )
    assert tools.one(render(values), "StatefulSet")["metadata"]["name"] == "mine"
