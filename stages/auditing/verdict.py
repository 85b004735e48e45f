"""One sentence that a layman understands, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.auditing.probes import Score
from stages.pipeline.errors import SplitError

FEW_GROUPS = 5  # fewer voices or sources in the test leave the score to the luck of the draw
CLEARLY = 0.02  # above what needs no ear: less is no finding
MANY_COPIES = 0.05  # of the clips outside training: fewer can move a score by as little, and are only told
SPOKEN_OF = {
    "mel_statistics": "the average sound",
    "silence": "the pauses between the words",
    "file": "the properties of the files",
}
FAR_BETTER = 0.2
NOT_LANGUAGE = ("silence", "file")


@dataclass(frozen=True)
class Findings:
    """What the verdict goes by.

    own, random : scores of the probes on the manifest's split and on a random one.
    groups_known : the dataset tells speakers or sources apart; suggested_groups : found by clustering, where not.
    straddling : groups in more than one split; test_groups : in the test.
    copies : clips outside training whose sound stands in another split as well; held_out : all clips outside training.
    """

    own: Mapping[str, Score | None]
    random: Mapping[str, Score | None]
    groups_known: bool
    suggested_groups: int
    straddling: int
    test_groups: int
    copies: int
    held_out: int


@dataclass(frozen=True)
class Verdict:
    """finding : one word for scripts and `dvc metrics diff`; sentence : for people."""

    finding: str
    sentence: str


def gives_away(score: Score | None) -> bool:
    """Certainly more than what needs no ear."""
    return score is not None and score.surely > score.floor + CLEARLY


def _share(score: Score) -> str:
    return f"{100 * score.accuracy:.0f} of 100 test clips right (guessing: {100 * score.floor:.0f})"


def verdict(findings: Findings) -> Verdict:
    """The gravest finding, and what a score on this split is worth.

    Worst first: copies across splits, voices that stand on both sides, the recording itself, too few voices.
    """
    many = findings.copies > MANY_COPIES * findings.held_out
    copies = "1 clip is a copy" if findings.copies == 1 else f"{findings.copies} clips are copies"
    if findings.copies and many:
        return Verdict(
            "copies",
            f"Do not trust a score on this split: {copies} of a recording in another split, so the answer was heard in "
            "training; see near_duplicates.csv.",
        )
    judged = _of_the_probes(findings)
    if findings.copies:
        clause = f"; {copies} of a recording in another split, see near_duplicates.csv."
        return Verdict(judged.finding, judged.sentence.removesuffix(".") + clause)
    return judged


def _of_the_probes(findings: Findings) -> Verdict:
    own = {name: score for name, score in findings.own.items() if score is not None}
    if not own:
        return Verdict(
            "nothing",
            "Nothing can be said of this split: no test clip is left, or fewer than two languages have two clips to "
            "learn from.",
        )
    best = max(own, key=lambda name: own[name].accuracy - own[name].floor)
    known = f"{SPOKEN_OF[best]} alone gets {_share(own[best])}"
    if not findings.groups_known:
        hint = "; suggested_groups.csv proposes some" if findings.suggested_groups else ""
        return Verdict(
            "no_groups",
            "A score on this split may measure voices, not languages: nothing tells who speaks, so the same voices may "
            f"stand in training and in test, and without hearing a word {known}{hint}.",
        )
    if findings.straddling:
        voices = "voice or source stands" if findings.straddling == 1 else "voices or sources stand"
        return Verdict(
            "straddling_groups",
            f"A score on this split measures voices as well as languages: {findings.straddling} {voices} in more than "
            f"one split, and without hearing a word {known}.",
        )
    silent = [name for name in NOT_LANGUAGE if gives_away(own.get(name))]
    if silent:
        name = max(silent, key=lambda name: own[name].accuracy)
        return Verdict(
            "recording",
            f"A score on this split measures the recording as well as the language: {SPOKEN_OF[name]} alone give it "
            f"away, {_share(own[name])}, and they hold no word.",
        )
    if findings.test_groups < FEW_GROUPS:
        number = "1 voice or source" if findings.test_groups == 1 else f"{findings.test_groups} voices or sources"
        return Verdict(
            "few_groups",
            f"No score on this split is certain: the test holds only {number}{_random_clause(findings)}.",
        )
    if gives_away(own.get("mel_statistics")):
        return Verdict(
            "fit",
            "This split is fit to measure language: pauses and files give nothing away; the average sound alone gets "
            f"{_share(own['mel_statistics'])}, so only what a model scores above that shows that it listens to words.",
        )
    return Verdict(
        "fit", f"This split is fit to measure language: no shortcut beats guessing by much; the best, {known}."
    )


def _random_clause(findings: Findings) -> str:
    """Why the split matters, where a random one would have looked far better."""
    pairs = [
        (other.accuracy - max(own.accuracy, own.floor), name, own, other)
        for name, own in findings.own.items()
        if own is not None and (other := findings.random.get(name)) is not None
    ]
    if not pairs:
        return ""
    gain, name, own, other = max(pairs, key=lambda pair: pair[0])
    if gain < FAR_BETTER:
        return ""
    return (
        f"; a random split would look far better without hearing a word ({SPOKEN_OF[name]}: "
        f"{100 * other.accuracy:.0f} of 100 right instead of {100 * own.accuracy:.0f}), by knowing the voices and the "
        "microphones"
    )


def check_gate(own: Mapping[str, Score | None], fail_above: float) -> None:
    """Judge the shortcuts on the manifest's own split.

    What they score at least counts, so that a small test doesn't fail by bad luck.

    Raises
    ------
    SplitError
        A shortcut certainly scores more than `fail_above`.
    """
    over = {name: score for name, score in own.items() if score is not None and score.surely > fail_above}
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
