"""`minireduce replay`: one failed map task once more, in this process, for a debugger."""

from __future__ import annotations

import click

from minireduce.cli.options import json_option


@click.command(epilog="Example:  minireduce replay job-3f9a01-1_s0_m00012")
@click.argument("task_name", metavar="TASK")
@json_option
def replay(task_name: str, *, is_json: bool) -> None:
    """Run a map task that failed once more, in this process, with what the job file says now.

    A breakpoint in it stops here. It works where the job was submitted with `minireduce submit`, for its first step
    over local files and numbers, and leaves no output.
    """
    from minireduce.cli.show import plural, print_json
    from minireduce.ids import parse_task_id
    from minireduce.launch.replaying import replay as run_again

    def warn(path: str) -> None:
        click.echo(f"note: {path} is not as it was when the job ran", err=True)

    task = parse_task_id(task_name)
    made = run_again(task, warn)
    if is_json:
        print_json({"task": task_name, "records_in": made.records_in, "records_out": made.records_out})
        return
    print(f"{task_name} went through: {plural(made.records_in, 'record')} in, {plural(made.records_out, 'record')} out")
