"""What people see while servers start: a line when one is ready, and one line now and then naming the rest."""

from __future__ import annotations

from rich.console import Console

EVERY_S = 4.0


class Waiting:
    """Progress callback of `up` and `down`: (service, state, seconds).

    Args:
        brief: say nothing of what is ready, only what is waited for.
    """

    def __init__(self, console: Console, brief: bool = False) -> None:
        self.console, self.brief = console, brief
        self.states: dict[str, str] = {}
        self.said = 0.0

    def __call__(self, service: str, state: str, seconds: float) -> None:
        changed = self.states.get(service) != state
        self.states[service] = state
        if changed and state != "starting" and not (self.brief and state == "ready"):
            self.console.print(f"  {seconds:6.1f} s  {service}: {state}", markup=False)
            self.said = seconds
        elif seconds - self.said >= EVERY_S:
            rest = ", ".join(name for name, known in self.states.items() if known != "ready")
            self.console.print(f"  {seconds:6.1f} s  waiting for {rest}", markup=False)
            self.said = seconds
