"""A function's code with sites does what it did, whatever is written in it."""

from __future__ import annotations

import ast
import asyncio
import configparser
import dataclasses
import difflib
import fractions
import io
import shlex
import statistics
import string
import sys
import textwrap
import tokenize
import types

import pytest

from infersdk.decorators import accelerate
from infersdk.decorators.call_sites import NoSourceError, Place, decorators, with_sites

counter = 0


class Seen:
    """Sites that note what passes through them."""

    def __init__(self):
        self.places = []
        self.values = []

    def make(self, place):
        self.places.append(place)

        def of(value):
            self.values.append((place.expression, value))
            return value if place.method == "__call__" else getattr(value, place.method)

        return types.SimpleNamespace(of=of)

    def copy(self, function):
        code = with_sites(function.__code__, function.__globals__, self.make)
        copy = types.FunctionType(
            code,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        return copy


class Model:
    """Not a model to anybody."""

    def predict(self, *values, **named):
        return values, named

    def __call__(self, *values, **named):
        return "called", values, named


model = Model()


def plain(x):
    return model.predict(x), model(x, y=1), [model.predict(i) for i in range(2)]


def nested(x):
    def inner(y, default=model.predict(0)):  # noqa: B008
        nonlocal x
        x += 1
        return model.predict(x, y), default

    class Local:
        value: model.predict(1) = model.predict(2)

        def method(self, y=3):
            return model.predict(self.value, y)

    return inner(1), inner(2), Local().method(), (lambda z: model.predict(z))(5), x


def with_globals(x):
    global counter
    counter += 1
    return counter, model.predict(counter), globals()["model"] is model, sorted(locals())


def expressions(x):
    first = (y := model.predict(x))[0]
    text = f"{model.predict(x)!r:>10} {model(first)}"
    table = {"m": model}
    named = {"a": 3}
    starred = model.predict(*[1, 2], **named)
    chained = table["m"].predict(x) if x else None
    match starred:
        case ((1, 2), {"a": value}):
            found = model.predict(value)
        case _:
            found = None
    try:
        table["none"].predict(x)
    except* KeyError as group:
        caught = [type(error) for error in group.exceptions]
    with io.StringIO() as out:
        print(model.predict(x), file=out)
        printed = out.getvalue()
    del table
    return first, y, text, starred, chained, found, caught, printed


def generates(x):
    received = yield model.predict(x)
    yield from (model.predict(i) for i in received)
    return model.predict("end")


async def awaits(x):
    async def numbers():
        for i in range(3):
            yield i

    return [model.predict(i) async for i in numbers()], await asyncio.sleep(0, model.predict(x))


class Base:
    def predict(self, x):
        return "base", x


class Mangled(Base):
    def __init__(self):
        self.__model = model

    def __private(self, x):
        return self.__model.predict(x)

    def predict(self, x, *, named=4, **others):
        return super().predict(x), self.__model(x), self.__private(x), __class__, named, others


@pytest.mark.parametrize("function", [plain, nested, expressions])
def test_functions(function):
    copy = Seen().copy(function)
    assert copy(3) == function(3)
    assert copy.__code__.co_varnames == function.__code__.co_varnames


def test_global_statements():
    global counter
    counter = 0
    assert Seen().copy(with_globals)(1) == (1, ((1,), {}), True, ["x"])
    assert counter == 1


def test_generators_and_coroutines():
    def run(function):
        generator = function(1)
        found = [next(generator), generator.send([1, 2])]
        while True:
            try:
                found.append(next(generator))
            except StopIteration as end:
                return found, end.value

    assert run(Seen().copy(generates)) == run(generates)
    assert asyncio.run(Seen().copy(awaits)(1)) == asyncio.run(awaits(1))


def test_methods_with_private_names_and_super():
    seen = Seen()
    copy = seen.copy(Mangled.predict)
    assert copy(Mangled(), 1, other=2) == Mangled().predict(1, other=2)
    assert Place("self.__model", "__call__") in seen.places
    assert Place("super()", "predict") in seen.places


def test_places():
    seen = Seen()
    seen.copy(plain)(7)
    assert {*seen.places} == {Place("model", "predict"), Place("model", "__call__")}
    assert all(value is model for _, value in seen.values)


def test_two_lambdas_in_a_line():
    one, two = (lambda: model.predict(1)), (lambda: model.predict(2))
    assert Seen().copy(one)() == one()
    assert Seen().copy(two)() == two()


def test_what_has_no_place_is_the_code_itself():
    def nothing(x):
        return len(x) + sum(x), x.copy(), [str(item) for item in x]

    code = with_sites(nothing.__code__, nothing.__globals__, Seen().make)
    assert code is nothing.__code__


def test_decorators():
    @staticmethod
    @pytest.mark.usefixtures("tmp_path")
    def function():
        return model.predict()

    inner = function.__func__
    texts = [ast.unparse(item) for item in decorators(inner.__code__, inner.__globals__)]
    assert texts == ["staticmethod", "pytest.mark.usefixtures('tmp_path')"]


def test_code_without_its_source():
    namespace = {}
    exec(compile("def f(): return g()", __file__, "exec"), namespace)  # another line of this file
    with pytest.raises(NoSourceError, match="has changed"):
        with_sites(namespace["f"].__code__, namespace, Seen().make)
    exec(compile("def f(): return g()", "<nowhere>", "exec"), namespace)
    with pytest.raises(NoSourceError, match="not to be found"):
        with_sites(namespace["f"].__code__, namespace, Seen().make)


def test_the_file_of_a_function_that_is_no_python(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# A page\n\ndef f(): return g()\n")
    namespace = {}
    exec(compile("\n\ndef f(): return g()", str(path), "exec"), namespace)
    # A comment and a function: this page is Python, as it happens.
    assert with_sites(namespace["f"].__code__, namespace, Seen().make) != namespace["f"].__code__
    path = tmp_path / "other.md"
    path.write_text("A page\n\ndef f(): return g()\n")
    exec(compile("\n\ndef f(): return g()", str(path), "exec"), namespace)
    with pytest.raises(NoSourceError, match="cannot be read"):
        with_sites(namespace["f"].__code__, namespace, Seen().make)


@dataclasses.dataclass
class Point:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)


SOURCE = textwrap.dedent(
    """
    class A(B, metaclass=C):
        '''Doc.'''
        x: int = 3
        async def f(self, *a, b=1, **c) -> None:
            async with d as e, g:
                return [i async for i in a if i] or {**c, 'k': f'{b!r:>{e}}'}
    """
)


def parsed_ini(text):
    parser = configparser.ConfigParser()
    accelerate(parser.read_string)(text)
    return {name: dict(section) for name, section in parser.items()}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (textwrap.fill, ("many words " * 40, 33)),
        (textwrap.dedent, ("   a\n     b\n   c",)),
        (lambda *a: list(accelerate(difflib.unified_diff)(*a)), (SOURCE.split(), ["A", "B"])),
        (difflib.get_close_matches, ("appel", ["ape", "apple", "peach"])),
        (statistics.quantiles, ([1, 5, 2, 8, 9, 3.5],)),
        (statistics.linear_regression, ([1, 2, 3, 4], [2, 4.1, 6, 8])),
        (shlex.split, ("a 'b c' \"d e\" f\\ g # h",)),
        (dataclasses.asdict, (Point(1, [2, 3]),)),
        (ast.unparse, (ast.parse(SOURCE),)),
        (ast.dump, (ast.parse(SOURCE),)),
        (lambda text: accelerate(string.Template(text).substitute)(a=1), ("$a ${a}",)),
        (
            lambda *a: accelerate(fractions.Fraction.limit_denominator)(*a),
            (fractions.Fraction(355, 1130), 9),
        ),
        (parsed_ini, ("[a]\nb = 1\n[c]\nd: %(e)s\ne = 2\n",)),
        (
            lambda s: [
                t.string for t in accelerate(tokenize.generate_tokens)(io.StringIO(s).readline)
            ],
            (SOURCE,),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_real_code_and_all_that_it_calls(function, arguments):
    accelerated = accelerate(function)
    assert "as it is" not in str(accelerated.report())
    assert accelerated(*arguments) == function(*arguments)


def test_recursion_and_the_depth_that_is_left():
    def depth(n):
        return 0 if n == 0 else 1 + depth(n - 1)

    n = sys.getrecursionlimit() // 2
    assert accelerate(depth)(n) == n
