"""Tab completion: `eval "$(mmattn -sc install=bash)"` (or zsh), or `mmattn -sc install=fish | source`. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmattn.cli.flags import FLAGS
from mmattn.config.folders import config_file, group_choices, packaged_groups
from mmattn.config.overrides import group_of
from mmattn.errors import UsageError

QUERY = "--complete"  # how the shell asks for completions of the words typed so far
_BASH = f"""_mmattn() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" words last
    read -ra words <<<"$line"
    [[ $line == *' ' ]] && words+=("")
    last="${{words[-1]}}"
    mapfile -t COMPREPLY < <("${{words[0]}}" {QUERY} "${{words[@]:1}}" 2>/dev/null)
    [[ $last == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${{COMPREPLY[@]#"${{last%%=*}}="}}")
    [[ ${{COMPREPLY[0]}} == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}}
complete -o default -F _mmattn mmattn
"""
_ZSH = f"""_mmattn() {{
    local -a found
    found=("${{(@f)$(mmattn {QUERY} "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    if [[ -n $found[1] ]]; then compadd -Q -S '' -- $found; else _files; fi
}}
compdef _mmattn mmattn
"""
_FISH = f"""complete -c mmattn -a '(begin
    set -l words (commandline -opc) (commandline -ct)
    mmattn {QUERY} $words[2..] 2>/dev/null
end)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
REMOVE = {"bash": "complete -r mmattn\n", "zsh": "compdef -d mmattn\n", "fish": "complete -c mmattn -e\n"}


def script(request: str) -> str:
    """The shell script for `install=bash` or `uninstall=bash`. Raises UsageError."""
    action, _, shell = request.partition("=")
    chosen = {"install": SCRIPTS, "uninstall": REMOVE}.get(action, {}).get(shell)
    if chosen is None:
        raise UsageError(f"--shell-completion {request}: expected install= or uninstall= {', '.join(SCRIPTS)}")
    return chosen


def candidates(words: Sequence[str], verbs: Sequence[str]) -> list[str]:
    """Completions of the last of `words`."""
    *before, word = words or [""]
    two = [verb for verb in verbs if " " in verb]
    if not before:
        return _matching([*dict.fromkeys(verb.split()[0] for verb in verbs)], word)
    if len(before) == 1 and any(verb.startswith(f"{before[0]} ") for verb in two):
        return _matching([verb.split()[1] for verb in two if verb.startswith(f"{before[0]} ")], word)
    verb = next((v for v in (" ".join(before[:2]), before[0]) if v in verbs), None)
    if verb is None:
        return []
    if word.startswith("-"):
        return _matching(FLAGS, word)
    if verb == "show":
        return _matching(packaged_groups(), word)
    return _matching(_of_config(verb.replace(" ", "_"), before[len(verb.split()) :], word), word)


def _of_config(name: str, before: Sequence[str], word: str) -> list[str]:
    """Keys, part by part, groups, and choices of a group or switch."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from mmattn.config.hydra_configs import load

    if config_file(f"{name}.yaml") is None:
        return []
    if group := group_of(word):
        return [f"{word.partition('=')[0]}={choice}" for choice in group_choices(group)]
    try:
        config: Any = OmegaConf.to_container(load(name, [text for text in before if group_of(text)]))
    except HydraException:  # a choice typed before does not exist
        return []
    key, equals, _ = word.partition("=")
    if equals:
        node = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return [f"{key}=true", f"{key}=false"] if isinstance(node, bool) else []
    groups = packaged_groups() if name == "train" else [each for each in packaged_groups() if each in config]
    return [*(f"{group}=" for group in groups), *_keys(config, key)]


def _keys(config: Mapping[str, Any], typed: str) -> Iterator[str]:
    *path, _ = typed.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, Mapping) else None
    for key, value in node.items() if isinstance(node, Mapping) else ():
        yield ".".join([*path, str(key)]) + ("." if isinstance(value, Mapping) and value else "=")


def _matching(found: Sequence[str], word: str) -> list[str]:
    return [each for each in dict.fromkeys(found) if each.startswith(word)]
