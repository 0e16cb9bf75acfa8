"""The churn report: what the page says, that it is safe, whole and usable."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from sparkify_assets.churn import metrics, outcomes
from sparkify_assets.churn.pages import PAGES
from sparkify_assets.report import charts, figures, words
from sparkify_assets.report.data import REGISTRY_COLUMNS, ReportData
from sparkify_assets.report.figures import Estimate
from sparkify_assets.report.measures import MEASURES
from sparkify_assets.report.page import FIRST_SHOWN, LISTED, MOST_LISTED, render
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.storage import write_part
from sparkify_assets.tables import (
    CHURN_FACTORS,
    CHURN_SCORES,
    EVALUATION_METRICS,
    EVALUATION_PREDICTIONS,
    LIVE_METRICS,
    MODEL_REGISTRY,
    REJECTED_LINES,
    TABLES,
    USER_LABELS,
    Slice,
    Table,
)
from sparkify_assets_tests.browsing import complaints

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIVE = "aaaa00001111"
HOSTILE = "</script><script>alert(1)</script><!-- \u2028 &amp; '\""
RUN = "0000aaaa"
SAID: dict[str, dict[str, Any]] = {
    "raw_events": {"source": "a log", "simulated": True, "lines": 1_203, "bytes": 2_500_000},
    "feature_table": {
        "log_start": "2018-10-01",
        "log_end": "2018-12-01",
        "last_day": "2018-12-01",
        "cutoffs": ["2018-10-15", "2018-10-22"],
        "horizon_days": 10,
    },
    "model_registry": {"newest": LIVE},
    "churn_scores": {"model_version": LIVE, "as_of": "2018-12-01"},
    "churn_factors": {
        "stability": {
            "folds": 5,
            "features": {"mean": 0.812, "lowest": 0.5},
            "themes": {"mean": None, "lowest": None},
        }
    },
}
ROWS = {"raw_events": 1_200, "rejected_lines": 3, "cleaned_events": 1_150}


# Small tables that keep their contracts


def frame(table: Table, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.polars_schema)


def scores(users: int = 45) -> pl.DataFrame:
    return frame(
        CHURN_SCORES,
        [
            {
                "user_id": str(1000 + i),
                "as_of": date(2018, 12, 1),
                "probability": 0.5 / (i + 1),
                "risk_decile": 10 - i * 10 // users,
                "level": "paid" if i % 3 else "free",
                "reason_1": f"songs per day: {i} (typical 3)",
                "reason_2": "on the paid level: yes (typical no)" if i % 3 else None,
                "model_version": LIVE,
                "flagged": i < 3,
                "events_known": 10,
                "scored_at": datetime(2018, 12, 1, 5, tzinfo=timezone.utc),
                "backfilled": False,
            }
            for i in range(users)
        ],
    )


# Rank and share of each theme: other than the sum of its factors' shares.
THEMES = {"sessions": (1, 0.6), "level": (2, 0.4)}


def factor(rank: int, name: str, theme: str, share: float, **changed: Any) -> dict[str, Any]:
    values = {"mean": 0.7, "p25": 1.0, "median": 2.0, "p75": 4.5}
    return {
        "feature": name,
        "theme": theme,
        "meaning": name.replace("_", " "),
        "unit": "days",
        "rank": rank,
        "rank_low": max(1, rank - 1),
        "rank_high": 3,
        "theme_rank": THEMES[theme][0],
        "theme_share": THEMES[theme][1],
        "mean_abs_contribution": share,
        "share": share,
        "direction": 1,
        "direction_words": "more of it goes with more churn",
        **{f"churned_{key}": value for key, value in values.items()},
        **{f"stayed_{key}": 2 * value for key, value in values.items()},
    } | changed


def factors() -> pl.DataFrame:
    return frame(
        CHURN_FACTORS,
        [
            factor(1, "days_quiet", "sessions", 0.4),
            factor(2, "is_paid", "level", 0.35, unit="0 or 1", direction=-1, stayed_mean=None),
            factor(3, "session_gap", "sessions", 0.25, direction=0, churned_median=None),
        ],
    )


def predictions(*, temporal: bool = True) -> pl.DataFrame:
    """Forty users, ten of whom churned; better than guessing, and better still where it leaks."""
    rows = []
    for protocol, estimate, noise in (
        ("forecast", "grouped", 3.0),
        ("forecast", "temporal", 3.0),
        ("whole_log", "grouped", 0.5),
    ):
        if estimate == "temporal" and not temporal:
            continue
        random = np.random.default_rng(7)
        for i in range(40):
            label = i % 4 == 0
            probability = 1 / (1 + np.exp(1.0 - 2 * label + noise * random.normal()))
            said = {"logistic_regression": probability, "sessions_per_day": 0.5}
            said["chosen"] = probability
            rows += [
                {
                    "protocol": protocol,
                    "estimate": estimate,
                    "model": model,
                    "candidate": "logistic_regression" if model == "chosen" else model,
                    "repeat": 0,
                    "fold": i % 5,
                    "user_id": str(i),
                    "as_of": date(2018, 11, 21),
                    "label": label,
                    "probability": float(value),
                    **dict.fromkeys(metrics.THRESHOLDS.values(), 0.5),
                }
                for model, value in said.items()
            ]
    return frame(EVALUATION_PREDICTIONS, rows)


def registry() -> pl.DataFrame:
    fitted = {
        "trained_at": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "pinned": False,
        "rows": 80,
        "positives": 20,
        "churned_users": 15,
        "horizon_days": 10,
        "libraries": json.dumps({"numpy": "2.9.9"}),
        "features": ["days_quiet"],
        "artifact": b"",
        "sha256": "",
        "trained_model_version": 0,
    }
    live = {"model_version": LIVE, "stage": "live", "decision": "Better than all."}
    refused = {"model_version": "bbbb", "stage": "refused", "decision": "Clearly worse than it."}
    return frame(
        MODEL_REGISTRY,
        [
            {"model": "logistic_regression", **live, **fitted},
            {"model": "boosted_regression", **refused, **fitted},
        ],
    )


def habits() -> pl.DataFrame:
    """Five users who churned and 45 who did not; the former use Thumbs Down twice as often."""
    return pl.DataFrame(
        [
            dict.fromkeys(PAGES, 0)
            | {"user_id": str(i), "churned": i < 5, "tenure_days": i, "active_days": 3}
            | {"events": 100, "songs": 80, "thumbs_down": 4 if i < 5 else 2}
            | {"first_paid": False, "last_paid": i % 2 == 0, "paid_share": 0.5}
            | {"observed_days": 20, "seen_days": 2}
            for i in range(50)
        ]
    )


def report(**changed: Any) -> ReportData:
    """A report's data; `said` changes what the tables' writers said.

    outcomes: the cutoffs in score_outcomes, and whether each was scored after the fact.
    """
    said, cutoffs = changed.pop("said", {}), changed.pop("outcomes", {})
    predicted = changed.pop("predictions", predictions())
    measured = metrics.evaluation_metrics(predicted.to_pandas(), resamples=100)
    made = ReportData(
        dataset="mini",
        scores=scores(),
        factors=factors(),
        metrics=pl.from_pandas(measured).select(EVALUATION_METRICS.names),
        predictions=predicted,
        registry=registry().select(REGISTRY_COLUMNS),
        live_metrics=frame(LIVE_METRICS, []),
        churned=pl.Series("churned", [True] * 5 + [False] * 45),
        habits=habits(),
        rejections=pl.Series("reason", ["not JSON: byte 3", "not JSON: byte 9", "no page"]),
        versions={
            name: Version(
                path=f"lake/mini/{name}",
                number=number,
                rows=ROWS.get(name, 10),
                size=1_000,
                files=1,
                committed_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
                metadata={"run_id": RUN} | SAID.get(name, {}) | said.get(name, {}),
                slices={
                    day: Slice("", {"backfilled": after_the_fact})
                    for day, after_the_fact in cutoffs.items()
                },
            )
            for number, name in enumerate(TABLES)
        },
        made_at=datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
        code_version="9.8.7",
        run_id="run-of-the-report",
    )
    return replace(made, **changed)


# Reading a page


class Walk(HTMLParser):
    """Tags in balance, their attributes, and the text of the page without scripts and styles."""

    VOID = frozenset({"meta", "link", "br", "input", "hr", "img"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.titles: dict[str, str] = {}  # of pictures, by id
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] == "title":
            self.titles[self.tags[-1][1].get("id") or "page"] = data
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def embedded(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report()


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data)


@pytest.fixture(scope="module")
def walk(page: str) -> Walk:
    return Walk(page)


# What it says


def test_the_answer_comes_first(data: ReportData, walk: Walk) -> None:
    expected = data.scores["probability"].sum()
    answer = f"About {expected:.0f} of 45 current users are expected to leave in the next 10 days"
    assert answer in walk.text
    assert "1 December 2018 to 10 December 2018" in walk.text
    assert "It covers chance and the 15 churned users" in walk.text
    assert walk.text.index(answer) < walk.text.index("What goes with churn")


def test_who_why_and_how_sure(data: ReportData, walk: Walk) -> None:
    top = data.scores.filter(risk_decile=10)["probability"].sum()
    assert f"{words.percent(top / data.scores['probability'].sum())} of the expected" in walk.text
    assert "sessions 60% of what moves the risk" in walk.text
    happened = data.predictions.filter(protocol="forecast", estimate="grouped", model="chosen")
    said = happened["probability"].sum()
    assert f"It expected {said:.0f} departures; {happened['label'].sum()} happened" in walk.text
    assert "better than guessing" in walk.text


def test_measures_equal_the_table(data: ReportData, walk: Walk) -> None:
    for protocol, estimate in (
        ("forecast", "grouped"),
        ("forecast", "temporal"),
        ("whole_log", "grouped"),
    ):
        for metric in ("pr_auc", "roc_auc", "f1", "weighted_f1", "brier_score"):
            row = data.metrics.filter(
                protocol=protocol, estimate=estimate, model="chosen", metric=metric
            ).row(0, named=True)
            written = f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
            assert written in walk.text, (protocol, estimate, metric)


def test_factors_say_how_users_differ(walk: Walk) -> None:
    said = "days quiet ▲ more of it goes with more churn 40% rank 1 to 3 2 days 1 to 4.5 days"
    assert said in walk.text
    assert "70% of them unknown" in walk.text  # yes or no is told as a share


def test_what_churned_users_did_differently(walk: Walk) -> None:
    said = "5 users who churned beside 45 who stayed, over the whole log LEAKS . It describes"
    assert said in walk.text
    assert "users who churned use Thumbs Down 2.00 [2.00, 2.00] times as often" in walk.text
    assert "Thumbs Down 4.00 [4.00, 4.00] 2.00 [2.00, 2.00] 2.00 [2.00, 2.00]" in walk.text
    assert len([name for name in walk.titles if name.startswith("findings-")]) == 5
    without = Walk(render(report(habits=habits().filter(pl.col("churned")))))
    assert "did differently" not in without.text
    assert "#findings" not in without.attributes("href")


def test_how_stable_the_order_of_the_factors_is() -> None:
    text = Walk(render(report())).text
    assert "fitted again 5 times, each time without one of 5 groups of users" in text
    assert "mean lowest factors 0.81 0.50 The 3 strongest factors" in text
    unsaid = Walk(render(report(said={"churn_factors": {"stability": None}}))).text
    assert "How stable" not in unsaid


def test_data_quality_and_provenance(walk: Walk) -> None:
    for said in (
        "Lines read 1,203 Rejected: not an event 3 Events 1,200",
        "logged out, or an exact repeat 50",
        "Events of known users, used 1,150",
        "Every line is an event or a rejected line; none was lost.",
        "not JSON 2 no page 1",
        "50, of whom 5 churned (10%)",
        "logistic regression, learned from 80 rows, 20 of them churned",
        f"{LIVE} , trained 1 January 2026",
        "numpy 2.9.9",
        "sparkify-assets 9.8.7",
        "2018-10-15, 2018-10-22",
        "run-of-the-report",
    ):
        assert said in walk.text
    for name, number in zip(TABLES, range(len(TABLES)), strict=True):
        assert f"{name} {number} " in walk.text


def test_scores_of_another_model_than_the_newest_are_said_so(page: str) -> None:
    assert "of the newest training" not in page
    held_back = Walk(render(report(said={"model_registry": {"newest": "bbbb"}}))).text
    assert (
        "These figures are of the newest training, version bbbb . The scores are from version "
        f"{LIVE} , trained 1 January 2026. Clearly worse than it."
    ) in held_back


def test_every_metric_is_shown(data: ReportData) -> None:
    profits = {metrics.profit_name(cost, save) for cost, save in metrics.PROFIT_GRID}
    assert set(data.metrics["metric"]) == {m.metric for m in MEASURES} | profits


def test_what_contacts_would_be_worth(data: ReportData, walk: Walk) -> None:
    """A cell by hand: profit for 1,000 users, where it begins to pay, and contacting all."""
    row = data.metrics.filter(
        protocol="forecast",
        estimate="grouped",
        model="chosen",
        metric="profit_per_user@cost=0.02,save=0.3",
    ).row(0, named=True)
    value, low, high = (words.signed(1000 * row[name]) for name in ("value", "ci_low", "ci_high"))
    everyone = words.signed(1000 * (10 / 40 * 0.3 - 0.02))
    assert f"{value} [{low}, {high}] pays from 6.7% all users: {everyone}" in walk.text
    cells = [cell for row in figures.profits(data.metrics) for cell in row]
    assert len(cells) == len(metrics.PROFIT_GRID)
    clear = [c for c in cells if c.value.low is not None and c.value.low > max(0, c.everyone)]
    assert [tag for tag, attrs in walk.tags if attrs.get("class") == "figure clear"] == (
        ["td"] * len(clear)
    )


def test_no_contacts_without_an_estimate(data: ReportData) -> None:
    leaking = data.metrics.filter(pl.col("protocol") == "whole_log")
    assert figures.profits(leaking) == []
    assert "contacting users" not in Walk(render(replace(data, metrics=leaking))).text


def test_whether_scores_can_be_read_as_probabilities() -> None:
    """Right for a fifth of 400 users at .1 and .3; then three times as sure as it should be."""
    label = np.tile([True] + [False] * 9 + [True] * 3 + [False] * 7, 20)
    right = np.tile([0.1] * 10 + [0.3] * 10, 20)
    said = {}
    for name, probability in (("right", right), ("wrong", np.minimum(3 * right, 0.95))):
        frame = predictions().filter(estimate="grouped", model="chosen", protocol="forecast")
        many = pl.concat([frame] * 10).with_columns(
            label=pl.Series(label),
            probability=pl.Series(probability),
            user_id=pl.arange(0, 400).cast(pl.String),
        )
        said[name] = Walk(render(report(predictions=many))).text
    assert "Said and happened are 0.000" in said["right"]
    assert "as far as this log can tell, the scores can be read as probabilities" in said["right"]
    assert "Its scores can be read as probabilities" in said["right"]
    assert "are not to be read as probabilities" in said["wrong"]
    assert "can be read" not in said["wrong"]


def test_a_handful_of_churned_rows_is_not_drawn_as_a_line() -> None:
    few = predictions().with_columns(
        label=pl.col("label")
        & ((pl.col("estimate") != "temporal") | pl.col("user_id").is_in(["0", "4"]))
    )
    walk = Walk(render(report(predictions=few)))
    assert "Only 2 of the rows of the last cutoff churned" in walk.text
    assert "line later" not in walk.attributes("class")
    assert "line later" in Walk(render(report())).attributes("class")


def test_lines_that_do_not_add_up_are_said() -> None:
    lost = render(report(said={"raw_events": {"lines": 1_300}}))
    assert "do not add up" in lost


def test_what_leaks_is_marked(walk: Walk) -> None:
    assert walk.text.count("Whole log LEAKS") >= 4
    for name, title in walk.titles.items():
        assert ("LEAKS" in title) == name.startswith("whole_log")
    assert len([name for name in walk.titles if name.startswith("whole_log")]) == 4
    assert "the seed, on the real file: 0.80" in walk.text


def test_simulated_is_said_only_when_it_is_so(page: str) -> None:
    assert page.count('class="tag simulated"') >= 6
    assert "Simulated data." in page
    real = render(report(said={"raw_events": {"simulated": False}}))
    assert "Simulated" not in real
    assert 'class="tag simulated"' not in real
    assert "as given, not simulated" in real


def test_nothing_is_called_a_cause(walk: Walk) -> None:
    text = walk.text.replace("need not cause it", "").replace("need not be the cause", "")
    assert not re.search(r"\b(cause|because|due to|leads? to|drives?)", text, re.IGNORECASE)


def test_an_estimate_that_is_missing_is_explained() -> None:
    left_out = {"forecast, temporal": "too few churned before the last cutoff"}
    page = render(
        report(
            predictions=predictions(temporal=False),
            said={"evaluation_predictions": {"left_out": left_out}},
        )
    )
    text = Walk(page).text
    assert "Not estimated: forecast, temporal. too few churned before the last cutoff" in text
    assert "not known" in text


def test_before_a_forecast_is_old_enough_the_page_says_so(walk: Walk) -> None:
    assert "How earlier forecasts turned out" in walk.text
    assert "no forecast that was made in operation is 10 days old" in walk.text
    assert "is known when the log reaches 11 December 2018." in walk.text
    assert "scored after the fact" not in walk.text


def live_week(monday: date, **values: float | None) -> list[dict[str, Any]]:
    usual: dict[str, float | None] = dict.fromkeys(outcomes.MEASURED, 0.25) | {"late_events": 3.0}
    return [
        {"week": monday, "metric": metric, "value": value, "rows": 1_400, "users": 200}
        | {"positives": 70, "ci_low": value and value / 2, "ci_high": value and value * 1.5}
        for metric, value in (usual | values).items()
    ]


def test_how_earlier_forecasts_turned_out() -> None:
    last = date(2018, 11, 19)
    rows = [
        *live_week(date(2018, 11, 12), precision=0.125, recall=0.5, mean_probability=0.1),
        *live_week(last, recall=None, pr_auc=None, mean_probability=0.05, late_events=0.0),
    ]
    cutoffs = {f"2018-11-{day:02}": day < 12 for day in (5, 12, 13, 19)}
    told = Walk(render(report(live_metrics=frame(LIVE_METRICS, rows), outcomes=cutoffs)))
    assert "3 cutoffs, 2,800 scored rows. 210 departures were expected; 140 happened." in told.text
    assert "3 events came late: after the cutoff that they lie before had been scored." in told.text
    assert "1 further cutoff was scored after the fact." in told.text
    # The newest first; the horizon of its Sunday ends after the log does.
    newest = "19 November 2018 not yet over 1,400 200 users 5% [2.5%, 7.5%] 25% [12.5%, 38%]"
    assert newest in told.text
    assert "25% [12.5%, 38%] not known not known 0.250 [0.125, 0.375] 0" in told.text
    assert "12 November 2018 1,400 200 users 10% [5%, 15%]" in told.text
    said = "Precision and recall: 12 Nov: 12.5% and 50%; 19 Nov: 25% and not known."
    assert said in told.text
    assert "Expected and churned: 12 Nov: 10% and 25%; 19 Nov: 5% and 25%." in told.text


def test_a_chart_has_room_for_eight_weeks_and_the_table_for_half_a_year() -> None:
    mondays = [date(2018, 1, 1) + timedelta(days=7 * i) for i in range(30)]
    rows = [row for monday in mondays for row in live_week(monday)]
    told = Walk(render(report(live_metrics=frame(LIVE_METRICS, rows)))).text
    assert "Precision and recall: 4 Jun: 25% and 25%" in told
    assert "4 earlier weeks are in the table live_metrics" in told
    assert "29 January 2018 1,400" in told
    assert "22 January 2018" not in told


def test_nobody_left_to_score() -> None:
    text = Walk(render(report(scores=scores(0)))).text
    assert "Fewer than one of 0 current users" in text


def test_more_users_than_a_browser_likes() -> None:
    walk = Walk(render(report(scores=scores(MOST_LISTED + 500))))
    assert len(walk.embedded["rows"]) == MOST_LISTED
    assert f"The {MOST_LISTED:,} users at most risk, of {MOST_LISTED + 500:,}" in walk.text
    assert "are in the table churn_scores" in walk.text


# That it is safe and whole


def test_the_download_holds_every_column_and_user(data: ReportData, walk: Walk) -> None:
    embedded = walk.embedded
    assert embedded["columns"] == LISTED
    assert set(CHURN_SCORES.names) - set(LISTED) == {"events_known", "scored_at", "backfilled"}
    rows = data.scores.select(LISTED).with_columns(pl.col("as_of").cast(pl.String))
    assert [row[0] for row in embedded["rows"]] == rows["user_id"].to_list()
    for found, row in zip(embedded["rows"], rows.iter_rows(), strict=True):
        assert found[1:2] + found[3:] == list(row[1:2] + row[3:])
        assert found[2] == pytest.approx(row[2], abs=1e-6)


def test_hostile_text_is_harmless(data: ReportData) -> None:
    hostile = data.scores.with_columns(pl.lit(HOSTILE).alias("user_id"), reason_1=pl.lit(HOSTILE))
    page = render(
        report(
            scores=hostile,
            factors=data.factors.with_columns(meaning=pl.lit(HOSTILE), theme=pl.lit(HOSTILE)),
            rejections=pl.Series("reason", [HOSTILE]),
            said={"raw_events": {"source": HOSTILE}},
        )
    )
    walk = Walk(page)
    assert [tag for tag, _ in walk.tags].count("script") == 2
    assert "<!--" not in page
    assert "\u2028" not in walk.scripts[0]
    assert "alert(1)</script>" not in page
    assert walk.embedded["rows"][0][0] == HOSTILE
    assert " ".join(HOSTILE.split()) in walk.text


def test_nothing_is_fetched(page: str, walk: Walk) -> None:
    assert not re.search(r"https?:|wss?:|@import|url\(", page)
    links = walk.attributes("href") + walk.attributes("src")
    assert all(link.startswith("#") or link == "data:," for link in links)
    policy = next(value for value in walk.attributes("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'")


def test_readable_without_seeing_it(walk: Walk) -> None:
    ids = walk.attributes("id")
    assert len(ids) == len(set(ids))
    named = [name for value in walk.attributes("aria-labelledby") for name in value.split()]
    assert set(named) <= set(ids)
    assert {f"#{name}" for name in ids} >= {v for v in walk.attributes("href") if v[0] == "#"}
    tags = [tag for tag, _ in walk.tags]
    assert tags.count("h1") == tags.count("main") == 1
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attrs for tag, attrs in walk.tags if tag == "th")
    for tag, attrs in walk.tags:
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or attrs.get("role") == "img"
    assert tags.count("desc") == tags.count("title") - 1  # the page has a title as well


def test_the_same_data_gives_the_same_page(data: ReportData, page: str) -> None:
    assert render(data) == page


# Its figures


def test_expected_leavers_are_the_sum_of_probabilities() -> None:
    value, low, high = figures.expected_leavers(pl.Series([0.1] * 100), 50)
    assert value == pytest.approx(10)
    assert low is not None
    assert high is not None
    # sqrt(10) +- 1.96 * sqrt(9 + 100 / 50) / (2 * sqrt(10))
    assert low == pytest.approx(4.555, abs=0.001)
    assert high == pytest.approx(17.557, abs=0.001)


def test_fewer_churned_users_make_it_less_sure() -> None:
    few, many = (figures.expected_leavers(pl.Series([0.1] * 100), n) for n in (10, 1000))
    assert few.low < many.low < many.high < few.high  # type: ignore[operator]


def test_expected_leavers_stay_between_none_and_all() -> None:
    assert figures.expected_leavers(pl.Series([], dtype=pl.Float64), 10) == Estimate(0, 0, 0)
    _, low, high = figures.expected_leavers(pl.Series([0.9, 0.9]), 1)
    assert low == 0
    assert high == 2


def test_curves_of_four_rows() -> None:
    tested = figures.Tested(
        np.array([True, False, True, False]),
        np.array([0.9, 0.8, 0.7, 0.1]),
        np.array([True, True, False, False]),
    )
    assert tested.confusion() == {
        "flagged_left": 1,
        "flagged_stayed": 1,
        "missed": 1,
        "rightly_left_alone": 1,
    }
    share, found = tested.gain()
    at = dict(zip(np.round(share, 2), found, strict=True))
    assert (at[0.0], at[0.25], at[0.5], at[0.75], at[1.0]) == (0, 0.5, 0.5, 1, 1)


def test_the_first_hundredth_is_left_out_of_the_curve() -> None:
    """The first two of 300 users churned: a precision of 1 that says nothing of the rest."""
    probability = np.linspace(0.9, 0.1, 300)
    label = np.isin(np.arange(300), [0, 1, 50, 100, 200])
    recall, precision = figures.Tested(label, probability, label).precision_recall()
    assert recall[0] == pytest.approx(2 / 5)
    assert precision[0] == pytest.approx(2 / 50)  # up to the row before the next that churned
    assert (recall[-1], precision[-1]) == (1, pytest.approx(5 / 300))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0%"),
        (0.0004, "<0.1%"),
        (0.05, "5%"),
        (0.1234, "12.3%"),
        (0.456, "46%"),
        (0.999, ">99%"),
        (1, "100%"),
    ],
)
def test_percent(value: float, said: str) -> None:
    assert words.percent(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(3.24, "+3.2"), (-0.5, "\N{MINUS SIGN}0.5"), (0.04, "0"), (-0.04, "0")],
)
def test_signed(value: float, said: str) -> None:
    assert words.signed(value) == said


def test_an_axis_ends_at_a_round_number() -> None:
    axis = charts.axis_up_to("", [0.17], str)
    assert axis.high == pytest.approx(0.2)
    assert axis.ticks == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


# The asset


def test_the_asset_writes_the_page_and_says_where(tmp_path: Path, data: ReportData) -> None:
    import dagster as dg

    from sparkify_assets.assets.report import churn_report
    from sparkify_assets.resources.io_manager import LakeResource

    lake = Lake(str(tmp_path))
    earlier = data.scores.with_columns(as_of=pl.lit(date(2018, 11, 1)))
    tables = {
        "churn_factors": data.factors,
        "evaluation_metrics": data.metrics,
        "evaluation_predictions": data.predictions,
        "live_metrics": data.live_metrics,
    }
    kept = {
        "churn_scores": pl.concat([earlier, data.scores]),
        "model_registry": registry(),
        "user_labels": frame(
            USER_LABELS,
            [{"user_id": "1", "churned": True, "events": 1, "songs": 0, "sessions": 1}],
        ).with_columns(
            pl.lit(datetime(2018, 10, 1, tzinfo=timezone.utc)).alias(name)
            for name in ("first_event_at", "last_event_at")
        ),
        "rejected_lines": frame(
            REJECTED_LINES, [{"source_file": "a", "byte_offset": 0, "reason": "not JSON"}]
        ),
    }
    for name, table in TABLES.items():
        rows = (tables | kept).get(name, frame(table, []))
        slices = {str(day): Slice("") for day in rows["as_of"]} if name == "churn_scores" else None
        parts = [
            write_part(f"{lake.folder('mini', name)}/{day}", of_day)
            for (day,), of_day in rows.group_by("as_of" if slices else pl.lit("parts"))
        ]
        lake.commit("mini", table, parts, {"run_id": RUN} | SAID.get(name, {}), slices=slices)
    resource = LakeResource(root=str(tmp_path))
    result = churn_report(
        dg.build_asset_context(partition_key="mini"),
        resource,
        churn_scores=lake.version("mini", "churn_scores"),
        **tables,
    )
    written = tmp_path / "mini" / "churn_report" / "churn_report.html"
    assert result.metadata["report"].value == written.as_uri()
    assert result.metadata["users"] == 45
    assert result.metadata["expected_leavers"] == pytest.approx(2.2, abs=0.05)
    assert "About 2 of 45 current users" in Walk(written.read_text(encoding="utf-8")).text
    read = {key.to_user_string() for key in churn_report.dependency_keys}
    assert read == {*tables, *kept, "user_days"}


# In a browser


@pytest.fixture
def shown(tab: Page, tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Opens a page from a file, as a user would, and sees at the end that nothing went wrong."""
    wrong = complaints(tab)

    def show(page: str) -> Page:
        file = tmp_path / "page.html"
        file.write_text(page, encoding="utf-8")
        tab.goto(file.as_uri())
        return tab

    yield show
    assert wrong == []


def users(tab: Page) -> list[str]:
    return tab.locator("#risk-table tbody th").all_text_contents()


def test_the_list_is_sorted_and_paged(
    shown: Callable[[str], Page], page: str, data: ReportData
) -> None:
    tab = shown(page)
    assert users(tab) == data.scores["user_id"].to_list()[:FIRST_SHOWN]
    tab.get_by_role("button", name="User").click()
    assert users(tab)[0] == "1000"
    assert sorting(tab) == {"user_id": "ascending"}
    tab.get_by_role("button", name="User").click()
    assert users(tab)[0] == "1044"
    tab.get_by_role("button", name="Probability").click()
    assert sorting(tab) == {"probability": "descending"}
    tab.get_by_role("button", name="Next").click()
    assert users(tab)[0] == "1020"
    assert tab.locator("#page-number").text_content() == "Page 2 of 3"
    assert tab.locator("#shown").text_content() == "Showing 21 to 40 of 45 users."


def sorting(tab: Page) -> dict[str, str]:
    """Of the columns by which the list is sorted, which way."""
    return {
        str(header.get_attribute("data-column")): str(header.get_attribute("aria-sort"))
        for header in tab.locator("th[aria-sort]").all()
    }


def test_the_list_is_filtered_and_downloaded(
    shown: Callable[[str], Page], data: ReportData
) -> None:
    from playwright.sync_api import expect

    hostile = data.scores.with_columns(
        user_id=pl.when(pl.col("user_id") == "1003")
        .then(pl.lit('=1+"1",<b>'))
        .otherwise(pl.col("user_id"))
    )
    tab = shown(render(report(scores=hostile)))
    tab.get_by_role("combobox", name="Level").select_option("free")
    said = tab.locator("#shown")
    assert said.text_content() == "Showing 1 to 15 of 15 users that match, of 45 listed."
    tab.get_by_role("searchbox", name="Find").fill("songs per day: 3 (")
    assert users(tab) == ['=1+"1",<b>']
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download").click()
    lines = download.value.path().read_text(encoding="utf-8").removeprefix("\ufeff").splitlines()
    assert lines[0] == ",".join(LISTED)
    # A leading = would be run as a formula.
    assert lines[1].startswith('"\'=1+""1"",<b>",2018-12-01,0.125,10,free,')
    assert len(lines) == 2
    tab.get_by_role("searchbox", name="Find").fill("nobody is called this")
    assert users(tab) == []
    assert said.text_content() == "No user matches. Clear the filters to see all."
    assert tab.get_by_role("button", name="Download").is_disabled()
    tab.get_by_role("button", name="Clear").click()
    # A form is reset after its event, so the page acts a moment later.
    expect(said).to_have_text("Showing 1 to 20 of 45 users.")
