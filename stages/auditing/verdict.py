"""One sentence that a layman understands, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.auditing.probes import Score
from stages.pipeline.errors import SplitError

FEW_GROUPS = 5  # fewer voices or sources in the test leave the score to the luck of the draw
CLEARLY = 0.02  # above what needs no ear: less is no finding
SPOKEN_OF = {
    "spectrum": "the average sound",
    "silence": "the pauses between the words",
    "file": "the properties of the files",
}
NOT_LANGUAGE = ("silence", "file")


@dataclass(frozen=True)
class Findings:
    """What the verdict goes by.

    own, random : scores of the probes on the manifest's split and on a random one.
    grouped : speakers or sources are known, and no test group was heard in training.
    straddling : groups in more than one split; test_groups : in the test.
    copies : clips outside training whose sound stands in another split as well.
    """

    own: Mapping[str, Score | None]
    random: Mapping[str, Score | None]
    groups_known: bool
    straddling: int
    test_groups: int
    copies: int


def gives_away(score: Score | None) -> bool:
    """Certainly more than what needs no ear."""
    return score is not None and score.low > score.floor + CLEARLY


def _share(score: Score) -> str:
    return f"{100 * score.accuracy:.0f} of 100 test clips right (guessing: {100 * score.floor:.0f})"


def verdict(findings: Findings) -> str:
    """The gravest finding, and what a score on this split is worth.

    Worst first: copies across splits, voices that stand on both sides, the recording itself, too few voices.
    """
    own = {name: score for name, score in findings.own.items() if score is not None}
    if not own:
        return "Nothing can be said: there are no test clips, or fewer than two languages to learn."
    best = max(own, key=lambda name: own[name].accuracy - own[name].floor)
    known = f"{SPOKEN_OF[best]} alone gets {_share(own[best])}"
    silent = [name for name in NOT_LANGUAGE if gives_away(own.get(name))]
    if findings.copies:
        clips = "clip is a copy" if findings.copies == 1 else "clips are copies"
        return (
            f"Do not trust a score on this split: {findings.copies} {clips} of a recording in another split, "
            "so the answer was heard in training; see near_duplicates.csv."
        )
    if not findings.groups_known:
        return (
            "A score on this split may measure voices, not languages: nothing tells who speaks, so the same voices may "
            f"stand in training and in test, and without hearing a word {known}; see suggested_groups.csv."
        )
    if findings.straddling:
        voices = "voice or source stands" if findings.straddling == 1 else "voices or sources stand"
        return (
            f"A score on this split measures voices as well as languages: {findings.straddling} {voices} in more than "
            f"one split, and without hearing a word {known}."
        )
    if silent:
        name = max(silent, key=lambda name: own[name].accuracy)
        verb = "give" if name == "silence" else "tell"
        return (
            f"A score on this split measures the recording as well as the language: {SPOKEN_OF[name]} alone {verb} it "
            f"away, {_share(own[name])}, and they hold no word."
        )
    if findings.test_groups < FEW_GROUPS:
        return (
            f"No score on this split is certain: the test holds only {findings.test_groups} voices or sources"
            f"{_random_clause(findings)}."
        )
    if gives_away(own.get("spectrum")):
        return (
            "This split is fit to measure language: pauses and files give nothing away; the average sound alone gets "
            f"{_share(own['spectrum'])}, so only what a model scores above that shows that it listens to words."
        )
    return f"This split is fit to measure language: no shortcut beats guessing by much; the best, {known}."


def _random_clause(findings: Findings) -> str:
    """Why the split matters, where a random one would have looked far better."""
    pairs = [
        (other.accuracy - own.accuracy, name)
        for name, own in findings.own.items()
        if own is not None and (other := findings.random.get(name)) is not None
    ]
    gain, name = max(pairs, default=(0.0, ""))
    if gain < 0.1:
        return ""
    own, other = findings.own[name], findings.random[name]
    if own is None or other is None:
        return ""
    return (
        f"; a random split would look far better without hearing a word ({SPOKEN_OF[name]}: "
        f"{100 * other.accuracy:.0f} of 100 right instead of {100 * own.accuracy:.0f}), by knowing the voices and the microphones"
    )


def check_gate(own: Mapping[str, Score | None], fail_above: float) -> None:
    """Judge the shortcuts on the manifest's own split.

    The lower end of the interval counts, so that a small test doesn't fail by bad luck.

    Raises
    ------
    SplitError
        A shortcut certainly scores more than `fail_above`.
    """
    over = {name: score for name, score in own.items() if score is not None and score.low > fail_above}
    if over:
        told = ", ".join(
            f"{SPOKEN_OF[name]} {score.accuracy:.3f} [{score.low:.3f}, {score.high:.3f}]"
            for name, score in over.items()
        )
        raise SplitError(
            f"expected no shortcut to score more than audit.fail_above = {fail_above:g} on the manifest's split, "
            f"received {told}. A model could score as much without knowing a language: see metrics/audit/verdict.txt "
            "and properties.csv; make the recordings of all languages alike (source, microphone, codec), split by "
            "speaker (manifest.group_pattern), or raise audit.fail_above"
        )
