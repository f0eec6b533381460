"""The laws on a checkpoint, from a shell."""

from __future__ import annotations

from slimformer.testing import __main__ as testing, cases


def test_a_checkpoint_that_keeps_the_laws_gets_a_line_for_each(checkpoint, capsys) -> None:
    assert testing.main([checkpoint, "--specs", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("BertForSequenceClassification: ")
    assert [line.partition("Law ")[2][:1] for line in lines[1:]] == list("123456789")


def test_a_broken_law_is_one_line_and_exit_code_1(checkpoint, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cases, "TOLERANCES", dict.fromkeys(cases.TOLERANCES, -1.0))
    assert testing.main([checkpoint, "--specs", "0"]) == 1
    assert capsys.readouterr().err.startswith("law 2 (rewiring changes nothing) is broken for")


def test_a_folder_without_a_model_is_one_line_and_exit_code_2(tmp_path, capsys) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert testing.main([str(tmp_path)]) == 2
    assert "holds no transformers model" in capsys.readouterr().err
