"""``hornpipe completion``: what makes a shell complete our words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    "completion",
    short_help="Print what makes a shell complete our commands and options.",
    epilog="\b\nExamples:\n  source <(hornpipe completion bash)      # in ~/.bashrc\n"
    "  source <(hornpipe completion zsh)       # in ~/.zshrc\n"
    "  hornpipe completion fish > ~/.config/fish/completions/hornpipe.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options of hornpipe."""
    made = get_completion_class(shell)
    assert made is not None
    # By the name that the entry point is called by, and the variable by which click hears of it.
    click.echo(made(context.find_root().command, {}, "hornpipe", "_HORNPIPE_COMPLETE").source())
