"""The app's routes as a page that loads nothing from elsewhere."""

import html as escaping
from collections.abc import Iterator, Mapping
from typing import Any


def html(schema: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        schema: The app's description in OpenAPI's form.
    """
    title = escaping.escape(schema["info"]["title"])
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: routes</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="stylesheet" href="page.css">',
            f"<main><h1>{title}: routes</h1>",
            '<p>The same for programs: <a href="openapi.json">openapi.json</a></p>',
            *_routes(schema["paths"]),
            "</main></html>",
        ]
    )


def _routes(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, route in methods.items():
            yield f"<h2><code>{method.upper()} {escaping.escape(path)}</code></h2>"
            yield f"<p>{escaping.escape(route.get('summary', ''))}</p>"
            rows = [*_parameters(route), *_members(route)]
            if rows:
                yield "<table><tr><th>name</th><th>in</th><th>type</th><th>meaning</th></tr>"
                yield from rows
                yield "</table>"


def _parameters(route: Mapping[str, Any]) -> Iterator[str]:
    for parameter in route.get("parameters", ()):
        about = parameter.get("description", "")
        yield _row(parameter["name"], parameter["in"], _type(parameter["schema"]), about)


def _members(route: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row for each member of a JSON body."""
    for content in route.get("requestBody", {}).get("content", {}).values():
        required = content["schema"].get("required", ())
        for name, kind in content["schema"].get("properties", {}).items():
            yield _row(name, "body", _type(kind), "required" if name in required else "")


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escaping.escape(cell)}</td>" for cell in cells) + "</tr>"


def _type(schema: Mapping[str, Any]) -> str:
    """Return what values there may be, in a few words."""
    if "anyOf" in schema:
        kinds = [_type(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return str(schema.get("type", "any"))
