"""A text as words, each of which knows its line, so that what is wrong with one can be said."""

import math
from typing import NoReturn

import numpy as np

from mlmd.state import InvalidInput

MOST = 1_000_000


class Words:
    """The words of `text` one after the other; from # to the end of a line is a remark. `name` is the file's."""

    def __init__(self, name: str, text: str):
        self._name = name
        lines = enumerate(text.splitlines(), 1)
        self._words = [(word, number) for number, line in lines for word in line.partition("#")[0].split()]
        self._at = 0

    def fail(self, message: str) -> NoReturn:
        """Raises InvalidInput with the file and the line of the last word taken."""
        line = self._words[max(self._at - 1, 0)][1] if self._words else 1
        raise InvalidInput(f"{self._name}, line {line}: {message}")

    def word(self, what: str) -> str:
        """The next word; `what` it should be, for the message where there is none."""
        if self._at == len(self._words):
            self.fail(f"the file ends where {what} should follow")
        self._at += 1
        return self._words[self._at - 1][0]

    def expect(self, wanted: str) -> None:
        """Takes this very word."""
        if (found := self.word(repr(wanted))) != wanted:
            self.fail(f"{wanted!r} should stand here, not {found!r}")

    def after(self, wanted: str) -> str:
        """The word after this one."""
        self.expect(wanted)
        return self.word(f"the {wanted}")

    def number(self, what: str, *, finite: bool = True) -> float:
        """The next word as a number."""
        word = self.word(what)
        try:
            value = float(word)
        except ValueError:
            self.fail(f"{what} should be a number, not {word!r}")
        if math.isnan(value) or (finite and math.isinf(value)):
            self.fail(f"{what} should be finite, not {word!r}")
        return value

    def count(self, what: str) -> int:
        """The next word as a whole number, 0 or more."""
        value = self.number(what)
        if value != math.floor(value) or not 0 <= value <= MOST:
            self.fail(f"{what} should be a whole number, 0 or more")
        return int(value)

    def array(self, name: str, shape: tuple[int, ...], *, finite: bool = True) -> np.ndarray:
        """This very word, and as many numbers as the shape has, row by row."""
        self.expect(name)
        values = [self.number(f"a number of {name!r}", finite=finite) for _ in range(math.prod(shape))]
        return np.array(values, dtype=np.float64).reshape(shape)

    def rest_of_line(self) -> list[str]:
        """The words that follow on the line of the last one taken."""
        line, start = self._words[self._at - 1][1], self._at
        while self._at < len(self._words) and self._words[self._at][1] == line:
            self._at += 1
        return [word for word, _ in self._words[start : self._at]]

    def finish(self) -> None:
        """There are no more words."""
        if self._at < len(self._words):
            self._at += 1
            self.fail("nothing should follow 'end'")
