r"""Separate the reasoning of a model from its answer, where the server leaves both in one text.

Models mark their reasoning in different ways: tags (`<think>`, `<thought>`, `[THINK]`), special tokens (`<|START_THINKING|>`,
`<unused94>`), the channels of the harmony format (https://github.com/openai/harmony) and headings. Text before a closing mark
is reasoning, and so is everything after an opening mark that is never closed: the model was cut off while it reasoned.
"""

import re

_TAG = r"(?:[\w:]*?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis|monologue)|cot)"
_PAIRS = (
    (rf"<{_TAG}\b[^<>]*>", rf"</{_TAG}\s*>"),
    (r"\[(?:THINK(?:ING)?|REASONING)\]", r"\[/(?:THINK(?:ING)?|REASONING)\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (
        r"<\|(?:START_THINKING|begin_thinking|think|thinking)\|>",
        r"<\|(?:END_THINKING|end_thinking|/think|/thinking)\|>",
    ),
    (r"<unused94>(?:thought\b)?", r"<unused95>"),
    (r"<\|channel>(?:thought\b)?", r"<channel\|>"),
    (r"\AThinking\.\.\.\s*\n", r"\.\.\.done thinking\.\s*"),
    (r"\Aanalysis(?=[A-Z])", r"assistantfinal(?=\S)"),  # harmony without its special tokens
    (r"\A\s*Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),
    (r"<details\s+type=[\"']reasoning[\"'][^<>]*>", r"</details>"),
)
_MARKS = tuple((re.compile(o, re.IGNORECASE), re.compile(c, re.IGNORECASE)) for o, c in _PAIRS)
_HARMONY = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>(.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)", re.DOTALL
)
_HEADINGS = re.compile(
    r"\A\s*#+\s*(?:thinking|thoughts?|reasoning|thought process)\s*:?\s*\n(.*?)"
    r"(?:^#+\s*(?:final )?(?:response|answer|output)\s*:?\s*\n(.*)|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Return the reasoning (None if the text has no mark of reasoning) and the answer ("" if the reasoning never ends).

    >>> split_reasoning("<think>Steady noise: rain?</think>dog")
    ('Steady noise: rain?', 'dog')
    >>> split_reasoning("[THINK]Steady noise")
    ('Steady noise', '')
    >>> split_reasoning("dog")
    (None, 'dog')
    """
    if "&lt;" in text:
        text = text.replace("&lt;", "<").replace("&gt;", ">")
    if channels := _HARMONY.findall(text):
        final = [content for name, content in channels if name == "final"]
        reasoning = "".join(content for name, content in channels if name != "final")
        return reasoning, final[-1] if final else ""
    if match := _HEADINGS.match(text):
        return match[1].strip(), match[2] or ""
    for opening, closing in _MARKS:
        ends = list(closing.finditer(text))
        answer = text[ends[-1].end() :].removesuffix("[END FINAL RESPONSE]") if ends else text
        start = opening.search(answer)
        if not ends and not start:
            continue
        reasoning = text[: ends[-1].start()] if ends else ""
        if start:  # an opening mark that is not closed
            reasoning += answer[start.end() :]
            answer = answer[: start.start()]
        if ends and not answer.strip() and (start := opening.search(text)) and text[: start.start()].strip():
            answer, reasoning = text[: start.start()], text[start.end() : ends[-1].start()]  # the answer comes first
        return opening.sub("", reasoning).strip(), answer.lstrip("\n")
    return None, text
