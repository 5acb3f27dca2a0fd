"""``*`` and ``?`` in the patterns of ``${NAME#pattern}`` and its like; a backslash makes the next character literal.

Positions are simulated together, so that no pattern takes more than pattern times value steps from one start.
"""

_STAR, _ANY = object(), object()


def escaped(text: str) -> str:
    """``text`` as a pattern that matches only itself."""
    return "".join("\\" + character if character in "*?\\" else character for character in text)


def without(value: str, pattern: str, modifier: str) -> str:
    """``value`` without what ``pattern`` matches at its beginning (``#``, ``##``) or end (``%``, ``%%``)."""
    tokens = _tokens(pattern)
    longest = len(modifier) == 2
    if modifier[0] == "#":
        ends = _ends(tokens, value)
        return value[(ends[-1] if longest else ends[0]) :] if ends else value
    ends = _ends(tokens[::-1], value[::-1])
    return value[: len(value) - (ends[-1] if longest else ends[0])] if ends else value


def replaced(value: str, pattern: str, replacement: str, every: bool) -> str:
    """``value`` with the first match, or every match, of ``pattern`` replaced; a match is as long as can be."""
    tokens = _tokens(pattern)
    if not value:
        return (
            replacement if tokens and _ends(tokens, value) else value
        )  # as bash: ``*`` matches nothing, too
    stars = [index for index, token in enumerate(tokens) if token is _STAR]
    head = tokens[: stars[0]] if stars else tokens
    result: list[str] = []
    position = 0
    while position < len(value) and tokens:
        if _begins(head, value, position):
            ends = _ends(tokens, value, position)
            if ends and ends[-1] > position:
                result.append(replacement)
                position = ends[-1]
                if not every:
                    break
                continue
            if stars:
                break  # what does not follow the star here follows it nowhere
        result.append(value[position])
        position += 1
    return "".join(result) + value[position:]


def _begins(tokens: list[object], value: str, position: int) -> bool:
    """Whether these tokens, no stars, match at ``position``."""
    if position + len(tokens) > len(value):
        return False
    return all(token is _ANY or token == value[position + index] for index, token in enumerate(tokens))


def _tokens(pattern: str) -> list[object]:
    tokens: list[object] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            tokens.append(next(characters, "\\"))
        elif character == "*":
            tokens.append(_STAR)
        else:
            tokens.append(_ANY if character == "?" else character)
    return tokens


def _ends(tokens: list[object], text: str, start: int = 0) -> list[int]:
    """Where matches of the whole pattern that begin at ``start`` may end, ascending."""
    states = _beyond_stars(tokens, {0})
    ends = [start] if len(tokens) in states else []
    for position in range(start, len(text)):
        following = set()
        character = text[position]
        for state in states:
            if state == len(tokens):
                continue
            token = tokens[state]
            if token is _STAR:
                following.add(state)
            elif token is _ANY or token == character:
                following.add(state + 1)
        states = _beyond_stars(tokens, following)
        if not states:
            break
        if len(tokens) in states:
            ends.append(position + 1)
    return ends


def _beyond_stars(tokens: list[object], states: set[int]) -> set[int]:
    reached = set(states)
    for state in states:
        position = state
        while position < len(tokens) and tokens[position] is _STAR:
            position += 1
            reached.add(position)
    return reached
