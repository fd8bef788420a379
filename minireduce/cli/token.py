"""`minireduce token`: the client's token of this machine, or the one line that adds a worker."""

from __future__ import annotations

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json


@click.command(epilog="Example:  minireduce token --join --master node1:7070")
@click.option("--join", is_flag=True, help="The line for `minireduce-worker --join`, on the master's machine.")
@json_option
@common_options
def token(common: Common, *, join: bool, is_json: bool) -> None:
    """Show the client's token, or the line that adds a worker. Both are secrets."""
    from minireduce.auth import tokens

    configuration = common.configuration()
    held = tokens.find(configuration)
    if not join:
        text = held.require_client()
    else:
        text = _join_line(configuration.settings.master, held.require_worker(), tokens.path_of(configuration))
    print_json({"join" if join else "token": text}) if is_json else print(text)


def _join_line(master: str | None, worker_token: str, token_file: object) -> str:
    """What another machine needs: the master's address as seen from there, its authority, the worker's token."""
    from pathlib import Path

    from minireduce.auth.joining import Join, make_join, split_address
    from minireduce.auth.transport import authority_path, needs_tls
    from minireduce.errors import RequestError

    if master is None:
        raise RequestError(
            "the line names the master, and none is known here", hint="add --master HOST:PORT as workers will reach it"
        )
    host, _ = split_address(master)
    assert isinstance(token_file, Path)
    authority = authority_path(token_file)
    if not authority.exists():
        if needs_tls(host):
            raise RequestError(
                f"{authority} is missing, so workers could not tell whom they join",
                hint="run this on the master's machine, once it has listened beyond loopback",
            )
        return make_join(Join(master, None, worker_token))
    from cryptography.x509 import load_pem_x509_certificate

    from minireduce.auth.certificates import fingerprint

    return make_join(Join(master, fingerprint(load_pem_x509_certificate(authority.read_bytes())), worker_token))
