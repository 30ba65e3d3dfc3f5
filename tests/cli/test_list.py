import pytest

from hf_mlrpl.cli.main import COMMANDS, main
from hf_mlrpl.hub.shipped import recipe_files
from hf_mlrpl.registry import DATASETS, METHODS, PROTOCOLS, VIEWS, load


def test_everything_that_exists_is_listed(capsys):
    assert main(["list"]) == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    for kind in (METHODS, DATASETS, PROTOCOLS, VIEWS, recipe_files()):
        assert {*kind} <= words


def test_one_kind(capsys):
    assert main(["list", "methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "methods:" and [line.split()[0] for line in lines[1:]] == list(METHODS)
    assert all(len(line.split()) > 2 for line in lines[1:]), "each with a summary"


def test_an_unknown_kind_is_an_error(capsys):
    with pytest.raises(SystemExit) as error:
        main(["list", "method"])
    assert error.value.code == 2 and "methods" in capsys.readouterr().err


def test_every_line_of_the_registry_can_be_imported():
    for spec in METHODS.values():
        assert load(spec.objective).config_class and load(spec.model).config_class
    for entries in (DATASETS, PROTOCOLS, VIEWS):
        assert all(callable(load(entry.target)) and entry.summary for entry in entries.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"hf-mlrpl {command}" in capsys.readouterr().out


def test_without_arguments_there_is_help(capsys):
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0 and "hf-mlrpl" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["trian"], ["train", "--resum-e"]])
def test_a_wrong_command_is_an_error(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2 and "usage: hf-mlrpl" in capsys.readouterr().err
