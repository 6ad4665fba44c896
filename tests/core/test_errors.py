"""Remedies are in the words of whoever called."""

import threading

from xpjax.core.errors import XpjaxError, command_line, on_command_line, say


def test_remedies_name_arguments_or_options() -> None:
    assert say("overwrite=True", "--overwrite") == "overwrite=True"
    with command_line():
        assert on_command_line()
        assert say("overwrite=True", "--overwrite") == "--overwrite"
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(on_command_line()))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not on_command_line()


def test_it_is_a_value_error() -> None:
    assert issubclass(XpjaxError, ValueError)
