"""A result as HTML for a notebook: no script, no external resource, every text escaped, the notebook's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mmattn.inference.records.parts import Caption, ModalityUse, Tag, Utterance, Word
from mmattn.text import clean

MAX_TAGS, MAX_CAPTIONS, MAX_WORDS = 20, 50, 200
_NATS = 0.5  # least scale of the shading, so that words with small shares stay pale
_BLUE, _ORANGE = "86,180,233", "242,142,60"  # video, audio: distinct for the colour-blind, on light and dark
_STYLE = f"""<style>
.mmattn-result{{font:13px/1.5 system-ui,sans-serif;max-width:46em;color:inherit}}
.mmattn-result .line{{display:grid;grid-template-columns:minmax(6em,14em) 3em 1fr;gap:.6em;align-items:center}}
.mmattn-result .name{{overflow-wrap:anywhere;unicode-bidi:isolate}}
.mmattn-result .bar{{display:flex;height:.8em;background:rgba(128,128,128,.15);border-radius:2px;overflow:hidden}}
.mmattn-result .v{{background:rgb({_BLUE})}}.mmattn-result .a{{background:rgb({_ORANGE})}}
.mmattn-result .n{{background:rgba(128,128,128,.55)}}
.mmattn-result .key i{{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 .8em}}
.mmattn-result .dim{{opacity:.7}}.mmattn-result .num{{text-align:right;font-variant-numeric:tabular-nums}}
.mmattn-result p{{margin:.3em 0}}.mmattn-result mark{{color:inherit;border-radius:2px;padding:0 .15em}}
</style>"""


def render(
    path: str,
    *,
    failure: str | None = None,
    tags: Sequence[Tag] = (),
    captions: Sequence[Caption] = (),
    transcript: Sequence[Utterance] = (),
    modality: ModalityUse | None = None,
    issues: Sequence[str] = (),
) -> str:
    """What is known of one file as an HTML fragment. `failure`: why nothing is known."""
    head = f'<p class="name"><b>{_text(path)}</b></p>'
    if failure is not None:
        return _framed([head, f"<p>failed: {_text(failure)}</p>"])
    parts = [head]
    if captions or tags:
        parts.append(
            '<p class="key dim">owed to<i class="v"></i>picture<i class="a"></i>sound<i class="n"></i>neither</p>'
        )
    parts += [_caption(caption) for caption in captions[:MAX_CAPTIONS]]
    parts += _more(len(captions) - MAX_CAPTIONS, "captions")
    parts += [_utterance(each) for each in transcript[:MAX_CAPTIONS]]
    parts += _more(len(transcript) - MAX_CAPTIONS, "utterances")
    parts += [_tag(tag) for tag in tags[:MAX_TAGS]]
    parts += _more(len(tags) - MAX_TAGS, "tags")
    if not (captions or transcript or tags):
        parts.append("<p>no tag reaches the threshold</p>")
    return _framed([*parts, _foot(modality, issues)])


def _framed(parts: list[str]) -> str:
    return f'<div class="mmattn-result">{_STYLE}{"".join(parts)}</div>'


def _text(text: str) -> str:
    return escape(clean(text))


def _more(count: int, what: str) -> list[str]:
    return [f'<p class="dim">and {count} more {what}</p>'] if count > 0 else []


def _tag(tag: Tag) -> str:
    video, audio = max(tag.video or 0.0, 0.0), max(tag.audio or 0.0, 0.0)
    neither = max(tag.score - video - audio, 0.0)
    scale = 100 * min(max(tag.score, 0.0), 1.0) / ((video + audio + neither) or 1.0)
    widths = zip("van", (video, audio, neither), strict=True)
    bar = "".join(f'<span class="{name}" style="width:{scale * width:.1f}%"></span>' for name, width in widths)
    title = f"picture {tag.video or 0:+.2f}, sound {tag.audio or 0:+.2f}, together {tag.synergy or 0:+.2f}"
    if tag.segments:
        title += "; at " + ", ".join(f"{start:g}\u2013{end:g} s" for start, end in tag.segments[:8])
        title += ", \u2026" if len(tag.segments) > 8 else ""
    name = f'<span class="name">{_text(tag.tag)}</span><span class="num">{tag.score:.2f}</span>'
    bar = f'<span class="bar" role="img" aria-label="{title}">{bar}</span>'
    return f'<div class="line" title="{title}">{name}{bar}</div>'


def _caption(caption: Caption) -> str:
    known = caption.words or ()
    words = known[:MAX_WORDS]
    most = max([_NATS, *(part for word in words for part in (word.video, word.audio))])
    words_html = " ".join(_word(word, most) for word in words) + (" \u2026" if len(known) > MAX_WORDS else "")
    return f'<p>{_times(caption)} <span class="name">{words_html if words else _text(caption.text)}</span></p>'


def _utterance(utterance: Utterance) -> str:
    return f'<p>{_times(utterance)} <span class="name">\u201c{_text(utterance.text)}\u201d</span></p>'


def _times(part: Caption | Utterance) -> str:
    return f'<span class="dim">{part.start:.1f}\u2013{part.end:.1f} s</span>'


def _word(word: Word, most: float) -> str:
    blue, orange = (0.75 * max(part, 0.0) / most for part in (word.video, word.audio))
    title = f"picture {word.video:+.2f}, sound {word.audio:+.2f} nats"
    shade = f"linear-gradient(90deg,rgba({_BLUE},{blue:.2f}),rgba({_ORANGE},{orange:.2f}))"
    return f'<mark style="background:{shade}" title="{title}">{_text(word.word)}</mark>'


def _foot(use: ModalityUse | None, issues: Sequence[str]) -> str:
    parts = []
    if use is not None:
        parts.append(f"{' and '.join(use.used) or 'neither video nor audio'} used")
        if use.attention is not None:
            parts.append(
                f"share of attention on sound {use.attention.audio:.2f} (uniform attention: {use.attention.prior:.2f})"
            )
    if issues:
        parts.append(f"noticed: {_text(', '.join(issues))}")
    return f'<p class="dim">{"; ".join(parts)}</p>' if parts else ""
