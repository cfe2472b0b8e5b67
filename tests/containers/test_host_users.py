"""Users of the host with another id than 1000."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from stack import Stack

pytestmark = pytest.mark.containers
NewStack = Callable[..., Stack]


@pytest.fixture
def other_stack(built: Stack, new_stack: NewStack) -> Iterator[NewStack]:
    """Return `new_stack`, and restore the image of service python afterwards, whose name all stacks share."""
    yield new_stack
    built.compose("build", "python")


def run_without_warehouse(stack: Stack, *command: str) -> str:
    return stack.compose("run", "--rm", "-T", "--no-deps", *command)


def test_folder_of_another_user_is_refused_with_a_hint(built: Stack, new_stack: NewStack) -> None:
    del built
    stack = new_stack("refused", owner=1001)
    refused = stack.try_compose("run", "--rm", "-T", "--no-deps", "python", "python", "main.py", "--demo")
    assert refused.returncode == 1
    assert "cannot use the folder /workspace/.local" in refused.stderr
    assert "set HOST_UID in .env to the id of the folder's owner" in refused.stderr


@pytest.mark.parametrize("owner", [1001, 0], ids=["usual_runner", "root_of_rootless_docker"])
def test_owner_of_the_checkout_owns_what_containers_write(other_stack: NewStack, owner: int) -> None:
    stack = other_stack("owner", owner=owner, HOST_UID=str(owner))
    stack.compose("build")
    run_without_warehouse(stack, "python", "mkdir", ".local", "reports")
    run_without_warehouse(stack, "jupyter", "touch", "your_jup_notebooks/new.ipynb")
    for name in (".local", "reports", "your_jup_notebooks/new.ipynb"):
        assert (stack.checkout / name).stat().st_uid == owner
