"""The command line: ``devcluster --help``, or ``python -m rtj_devcluster --help``."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rtj_devcluster import build as building
from rtj_devcluster import image_store, kubebox, slots
from rtj_devcluster import kubectl as kubectl_of
from rtj_devcluster.cluster import DEFAULT_NAME, Cluster
from rtj_devcluster.control_plane import clear_abandoned
from rtj_devcluster.ending import unwind_when_asked
from rtj_devcluster.errors import DevClusterError, NoClusterError
from rtj_devcluster.progress import console, stage

app = typer.Typer(
    help="A real Kubernetes on one machine, without Docker.",
    no_args_is_help=True,
    add_completion=False,
)
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Such as node-1.")]


def _cluster(context: typer.Context) -> Cluster:
    return Cluster(context.obj)


def _kubeconfig(context: typer.Context) -> Path:
    path = _cluster(context).kubeconfig
    if not path.exists():
        raise NoClusterError(context.obj)
    return path


@app.callback()
def _choose(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Which cluster, of several side by side.")] = (
        DEFAULT_NAME
    ),
) -> None:
    context.obj = name


@app.command()
def up(
    context: typer.Context,
    nodes: Annotated[int | None, typer.Option(help="Number of nodes.", show_default="2")] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(help="nvidia.com/gpu of each node.", show_default="0")
    ] = None,
    audit: Annotated[
        bool | None, typer.Option("--audit", help="Log every request to log/audit.log.")
    ] = None,
) -> None:
    """Start the cluster, or what of it does not run; what is not given stays as it is."""
    cluster = _cluster(context)
    wishes: dict[str, Any] = {"nodes": nodes, "gpus_per_node": gpus_per_node, "audit": audit}
    given = {name: wish for name, wish in wishes.items() if wish is not None}
    cluster.up(replace(cluster.options, **given))
    console.print(f"export KUBECONFIG={cluster.kubeconfig}", soft_wrap=True)


@app.command()
def down(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Every cluster of this machine.")] = False,
) -> None:
    """Remove the cluster and all that it left on this machine."""
    clear_abandoned()
    for name in sorted({slot.cluster for slot in slots.taken()}) if every else [context.obj]:
        Cluster(name).down()
    if every:
        slots.check()


@app.command()
def status(context: typer.Context) -> None:
    """Show the nodes, and what other clusters there are."""
    cluster = _cluster(context)
    nodes, heard = cluster.status(), cluster.answers
    unknown = "unknown to Kubernetes" if heard else "unknown"
    table = Table("node", "power", "Ready")
    for node in nodes:
        table.add_row(node.name, node.power, unknown if node.ready is None else str(node.ready))
    answers = Console()
    answers.print(table)
    if not heard:
        answers.print("the API server does not answer: bring it back with up", soft_wrap=True)
    others = sorted({slot.cluster for slot in slots.taken()} - {cluster.name})
    if others:
        answers.print(f"other clusters: {', '.join(others)}")
    answers.print(f"images: {', '.join(sorted(image_store.images())) or 'none'}")


@app.command()
def kubeconfig(context: typer.Context) -> None:
    """Print the path of the administrator's kubeconfig."""
    typer.echo(_kubeconfig(context))


@app.command("build")
def build_image(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="Such as docker.io/library/x:dev.")],
    folder: Annotated[Path, typer.Argument(help="The build context.")] = Path(),
    file: Annotated[
        Path | None, typer.Option(help="The Dockerfile.", show_default="FOLDER/Dockerfile")
    ] = None,
    build_arg: Annotated[list[str] | None, typer.Option(help="NAME=value")] = None,
    verbose: Annotated[bool, typer.Option(help="Show the build's output.")] = False,
) -> None:
    """Build an image and give it to the nodes, running ones and those to come."""
    dockerfile = file or folder / "Dockerfile"
    building.build(image, dockerfile, folder, build_arg or (), verbose=verbose)
    _sync(_cluster(context))


@app.command()
def load(context: typer.Context, image: str) -> None:
    """Give the nodes an image that `build` made."""
    building.load(image)
    _sync(_cluster(context))


def _sync(cluster: Cluster) -> None:
    if cluster.exists:
        with stage("Send the image to running nodes"):
            cluster.sync_images()


@app.command()
def kill_node(context: typer.Context, node: NodeName) -> None:
    """Cut a node's power: SIGKILL of everything on it."""
    _cluster(context).kill_node(node)


@app.command()
def partition(context: typer.Context, node: NodeName) -> None:
    """Cut a node's network: its pods go on, unseen."""
    _cluster(context).partition(node)


@app.command()
def heal(context: typer.Context, node: NodeName) -> None:
    """Mend a node's network."""
    _cluster(context).heal(node)


@app.command()
def drain(context: typer.Context, node: NodeName) -> None:
    """Cordon a node and evict its pods."""
    _cluster(context).drain(node)


@app.command()
def delete_node(context: typer.Context, node: NodeName) -> None:
    """Take a node away as a cloud does: machine and Node object."""
    _cluster(context).delete_node(node)


@app.command()
def add_node(
    context: typer.Context,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="A new one if left out.")] = (
        None
    ),
) -> None:
    """Add a node, or bring one back that was killed, partitioned or drained."""
    with stage("Start the node"):
        name = _cluster(context).add_node(node)
    console.print(f"{name} is Ready")


def _tool(name: str, context: typer.Context) -> None:
    environment = kubectl_of.environment(_kubeconfig(context))
    program = str(kubebox.binary(name))
    os.execve(program, [program, *context.args], environment)  # noqa: S606 - no shell is meant


_PASS_ON = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    # Stops at the first word, so that a later `--` reaches the tool.
    "allow_interspersed_args": False,
    "help_option_names": [],
}


@app.command(context_settings=_PASS_ON)
def kubectl(context: typer.Context) -> None:
    """Run kubectl against the cluster."""
    _tool("kubectl", context)


@app.command(context_settings=_PASS_ON)
def helm(context: typer.Context) -> None:
    """Run Helm against the cluster."""
    _tool("helm", context)


def main() -> None:
    """Run the command line; an error of ours, or of a disk, is one message, not a traceback."""
    unwind_when_asked()
    try:
        app()
    except (DevClusterError, OSError) as error:
        console.print(f"devcluster: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
