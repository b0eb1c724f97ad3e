"""Tools to try a program with: assistant agent --tools examples/tools.py "What is 17 * 23?"

A tool is a function with types and a docstring; that is all the model is told of it.
"""

from __future__ import annotations

from assistant.tools import declares

_WEATHER = {
    "lisbon": "sunny, 24 °C, light wind from the north",
    "oslo": "light snow, -3 °C, calm",
    "nairobi": "scattered clouds, 21 °C, light wind from the east",
    "tokyo": "rain, 17 °C, strong wind from the south",
}


@declares(reads_private=False, brings_untrusted=False, can_send=False, can_write=False, can_exec=False, timeout_s=10.0)
def multiply(a: float, b: float) -> float:
    """Multiply two numbers.

    Args:
        a: The first factor.
        b: The second factor.
    """
    product = a * b
    return int(product) if float(product).is_integer() else product


@declares(reads_private=False, brings_untrusted=False, can_send=False, can_write=False, can_exec=False, timeout_s=10.0)
async def weather(city: str) -> dict[str, str]:
    """Look up the weather in a city. The data is made up and never changes: this is an example.

    Args:
        city: The name of the city, for example Lisbon.
    """
    known = ", ".join(name.capitalize() for name in _WEATHER)
    return {"city": city, "weather": _WEATHER.get(city.strip().lower(), f"unknown; known cities: {known}")}
