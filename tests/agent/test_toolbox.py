"""What a tools file is taken for: its functions, what the model is told of them, and what it is refused for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assistant.agent.definition import Traits
from assistant.agent.toolbox import Toolbox
from assistant.errors import UsageError
from tests.agent.calling import tool_of, tools_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "tools.py"


def refused(folder: Path, text: str) -> str:
    """Why a file with this text is no tools file."""
    with pytest.raises(UsageError) as caught:
        Toolbox.load(tools_file(folder, text), ())
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_public_functions_of_the_file_are_tools_sorted_by_name(tmp_path: Path) -> None:
    text = '''
        from os.path import join
        import json as _json

        def zebra() -> str:
            """Last."""

        async def apple() -> str:
            """First."""

        def _helper(x):
            pass

        class Thing:
            """No tool."""
    '''
    box = Toolbox.load(tools_file(tmp_path, text), ())
    assert [tool.name for tool in box.tools] == [spec.name for spec in box.specs] == ["apple", "zebra"]
    assert {tool.origin for tool in box.tools} == {"tools.py"}


def test_a_list_in_the_file_chooses(tmp_path: Path) -> None:
    text = '''
        def one() -> str:
            """One."""

        def helper(x):
            return x

        TOOLS = [one]
    '''
    assert [tool.name for tool in Toolbox.load(tools_file(tmp_path, text), ()).tools] == ["one"]


GOOGLE = """Add two numbers.

    Args:
        a: The first,
            as it is.
        b (int): The second.

    Returns:
        The sum.
    """
SPHINX = """Add two numbers.

    :param a: The first,
        as it is.
    :param b: The second.
    :returns: The sum.
    """
NUMPY = """Add two numbers.

    Parameters
    ----------
    a : int
        The first,
        as it is.
    b
        The second.

    Returns
    -------
    int
        The sum.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, SPHINX, NUMPY], ids=["google", "sphinx", "numpy"])
def test_the_docstring_says_what_the_tool_and_each_parameter_is(tmp_path: Path, docstring: str) -> None:
    file = tmp_path / "tools.py"
    file.write_text(f'def add(a: int, b: int = 1) -> int:\n    """{docstring}"""\n    return a + b\n')
    spec = Toolbox.load(file, ()).find("add").spec
    assert spec.description == "Add two numbers."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "The first, as it is."},
            "b": {"type": "integer", "description": "The second.", "default": 1},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def test_a_short_docstring_is_read_as_well(tmp_path: Path) -> None:
    text = 'def tool(a: int) -> int:\n    """Do.\n\n    :param a: One."""\n    return a\n'
    spec = tool_of(tmp_path, text).spec
    assert (spec.description, spec.parameters["properties"]["a"]["description"]) == ("Do.", "One.")
    assert tool_of(tmp_path, 'def tool():\n    """Note: it does."""\n').spec.description == "Note: it does."


def test_types_that_json_can_say_become_its_schema(tmp_path: Path) -> None:
    text = '''
        from __future__ import annotations
        from typing import Annotated, Literal, Optional
        from pydantic import Field

        def tool(
            schema: list[dict[str, float]],
            title: Literal["a", "b"],
            copy: Annotated[int, Field(ge=1, le=9)],
            none: Optional[bool] = None,
            either: int | str = "x",
        ) -> None:
            """Many types."""
    '''
    parameters = tool_of(tmp_path, text).spec.parameters
    properties = parameters["properties"]
    assert properties["schema"] == {
        "type": "array",
        "items": {"type": "object", "additionalProperties": {"type": "number"}},
    }
    assert properties["title"] == {"type": "string", "enum": ["a", "b"]}
    assert properties["copy"] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert properties["none"] == {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None}
    assert properties["either"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert parameters["required"] == ["schema", "title", "copy"]


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("a", "no type for its parameter 'a'"),
        ("a: int, b=3", "no type for its parameter 'b'"),
        ("*args: int", "takes *args"),
        ("**more: int", "takes **more"),
        ("a: int, /", "positional-only parameter 'a'"),
        ("a: bytes", "has the type bytes for its parameter 'a'"),
        ("a: 'set[int]'", "has the type set[int] for its parameter 'a'"),
        ("a: list", "has the type list for its parameter 'a'"),
        ("a: dict[int, str]", "dict[int, str]"),
        ("a: object", "has the type object"),
        ("a: 'Nothing'", "type that cannot be read: name 'Nothing' is not defined"),
        ("a: float = float('nan')", "default for 'a' that is not JSON"),
        ("a: str = b'x'", "default for 'a' that is not JSON"),
    ],
)
def test_a_signature_that_no_call_can_fill_is_refused_with_function_and_line(
    tmp_path: Path, signature: str, why: str
) -> None:
    text = f'import os\n\n@(lambda function: function)\ndef broken({signature}):\n    """Do it."""\n'
    sentence = refused(tmp_path, text)
    assert sentence.startswith("tools.py, line 4: the tool broken ")
    assert why in sentence


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("    return 1", "has no docstring"),
        ('    """ """', "has no docstring"),
        ('    """:param a: Something."""', "does not say what it does"),
        (
            '    """Do.\n\n    Args:\n        b: Nothing.\n    """',
            "documents the parameter 'b', which it does not have",
        ),
        ('    """Do."""\n    yield 1', "yields values"),
    ],
)
def test_a_function_that_says_too_little_is_refused_with_its_line(tmp_path: Path, body: str, why: str) -> None:
    sentence = refused(tmp_path, f"\n\ndef broken(a: int = 1):\n{body}\n")
    assert sentence.startswith("tools.py, line 3: the tool broken ")
    assert why in sentence


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def f(:\n", "is not Python (line 1)"),
        ("x = 1\n\ny = 1 / 0\n", "cannot be loaded (line 3): ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit(3)\n", "cannot be loaded (line 2): SystemExit: 3."),
        ("import no_such_library\n", "(line 1): ModuleNotFoundError: No module named 'no_such_library'."),
        ("x = 1\n", "has no public function"),
        ('def f():\n    """F."""\ndef f():\n    """F."""\n', "two functions called f, in lines 1 and 3"),
        ("TOOLS = 3\n", "TOOLS of the tools file tools.py is not a list of functions"),
        ("from os.path import join\nTOOLS = [join]\n", "lists join, which the file does not define"),
        ("f = lambda: 1\nTOOLS = [f]\n", "lists <lambda>, which the file does not define"),
        ('def read_file():\n    """F."""\n', "Two tools are called read_file"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        Toolbox.load(tools_file(tmp_path, text), ("read_file",), root=tmp_path)
    assert why in str(caught.value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        Toolbox.load(tmp_path / "none.py", ())


def test_loading_prints_nothing_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool_of(tmp_path, 'print("loading")\n\ndef tool() -> str:\n    """Do."""\n')
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["tools.py"]


def test_a_file_beside_a_tools_file_takes_no_library_s_place(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "beside.py").write_text("WORD = 'from beside'\n")
    text = 'import json\nimport beside\n\ndef tool(a: str = beside.WORD) -> str:\n    """Do."""\n'
    try:
        properties = tool_of(tmp_path, text).spec.parameters["properties"]
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("beside", None)
    assert properties["a"]["default"] == "from beside"


def test_what_is_not_declared_counts_as_yes_and_brings_no_network(tmp_path: Path) -> None:
    text = '''
        from assistant.tools import declares

        def silent() -> str:
            """Says nothing."""

        @declares(can_exec=False, timeout_s=2)
        def some() -> str:
            """Says some."""

        @declares(reads_private=False, brings_untrusted=True, can_send=True, can_write=False, can_exec=False)
        def sender() -> str:
            """Sends."""
    '''
    box = Toolbox.load(tools_file(tmp_path, text), ())
    silent, some, sender = box.find("silent"), box.find("some"), box.find("sender")
    assert silent.traits == Traits()
    assert some.traits == Traits(can_exec=False)
    assert sender.traits == Traits.of("brings_untrusted", "can_send")
    assert [tool.network for tool in (silent, some, sender)] == [False, False, True]
    assert (silent.timeout_s, some.timeout_s) == (None, 2)


def test_a_trait_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="can_fly"):
        Traits.of("can_fly")


DEFINITION = '''
from assistant.tools import declares

@declares(can_send=False)
def tool(a: int = 1) -> int:
    """Do it.

    Args:
        a: A number.
    """
    return a
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Do it.", "Do it. Also read the keys."),
        ("A number.", "A number, and the password."),
        ("a: int = 1", "a: int = 2"),
        ("a: int", "a: float"),
        ("can_send=False", "can_send=True"),
        ("return a", "return a + 1"),
    ],
)
def test_a_definition_that_changed_has_another_digest(tmp_path: Path, old: str, new: str) -> None:
    before = tool_of(tmp_path, DEFINITION)
    assert tool_of(tmp_path, DEFINITION.replace(old, new)).digest != before.digest


def test_a_definition_that_moved_has_the_same_digest(tmp_path: Path) -> None:
    before = tool_of(tmp_path, DEFINITION)
    (tmp_path / "other").mkdir()
    moved = tools_file(tmp_path / "other", "X = 1\n" + DEFINITION, "mine.py")
    assert Toolbox.load(moved, ()).find("tool").digest == before.digest


def test_the_example_loads() -> None:
    box = Toolbox.load(EXAMPLE, ())
    assert [tool.name for tool in box.tools] == ["multiply", "weather"]
    assert all(tool.traits == Traits.of() for tool in box.tools)
