"""`minireduce config show`: every setting, and with `--origin` who decided it."""

from __future__ import annotations

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json, print_table


@click.group()
def config() -> None:
    """Show settings and where they come from."""


@config.command(epilog="Example:  minireduce config show --origin")
@click.option("--origin", is_flag=True, help="Say which file, variable or flag decided each setting.")
@json_option
@common_options
def show(common: Common, *, origin: bool, is_json: bool) -> None:
    """Show every setting as it holds here and now."""
    from minireduce.config import SETTINGS
    from minireduce.config import show as written

    held = common.configuration()
    values = {name: getattr(held.settings, name) for name in SETTINGS}
    rows = [
        (
            name,
            setting.default_text if values[name] is None else written(values[name], setting.kind),
            held.origins[name],
        )
        for name, setting in SETTINGS.items()
    ]
    if is_json:
        print_json({name: {"value": values[name], "origin": held.origins[name]} for name in SETTINGS})
    elif origin:
        print_table(("SETTING", "VALUE", "ORIGIN"), rows)
    else:
        print_table(("SETTING", "VALUE"), [(name, value) for name, value, _ in rows])
