"""The settings file that `gateway init` writes names every key with its default."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.settings import load_settings, settings_template
from gateway.settings.keys import keys_of
from gateway.settings.model import NAMED_SECTIONS, SECTIONS, GroupSettings, ServerSettings
from tests.settings.files import write


def template_keys() -> Iterator[tuple[str, str, object]]:
    """Section, key and value of every line of the template, commented or not."""
    section = ""
    for line in settings_template().splitlines():
        if line.startswith("["):
            section = line.strip("[]").partition(".")[0]
        elif section and " = " in line:
            ((key, value),) = tomllib.loads(line.removeprefix("# ")).items()
            yield section, key, value


def test_nothing_is_left_out_of_the_template() -> None:
    silent = {
        f"{section}.{name}"
        for section, struct in (SECTIONS | NAMED_SECTIONS).items()
        for name, key in keys_of(struct).items()
        if key.description is None
    }
    assert silent == set()


def test_the_template_loads_as_it_is_written() -> None:
    settings = load_settings(write(settings_template()), {})
    assert settings.server == msgspec.structs.replace(ServerSettings(), workers=settings.server.workers)
    assert settings.groups["read"] == GroupSettings(endpoints=("primary",))
    assert settings.groups["write"] == GroupSettings(access="write", size=8, endpoints=("primary",))


def test_the_template_shows_every_key_with_its_default(folder: Path) -> None:
    sections = SECTIONS | NAMED_SECTIONS
    fields = {
        (section, name)
        for section, struct in sections.items()
        for name, key in keys_of(struct).items()
        if key.description is not None
    }
    assert {(section, key) for section, key, _ in template_keys()} == fields
    lines = "\n".join(
        line.removeprefix("# ")
        for line in settings_template().splitlines()
        if line.startswith("[") or (" = " in line and not line.startswith("#  ") and "dsn_file" not in line)
    ).partition("[server]")
    settings = load_settings(write("[server]" + lines[2].replace("password_file", "#")), {})
    plain = load_settings(write(settings_template()), {})
    assert msgspec.structs.replace(settings, server=plain.server) == plain
    assert settings.server == plain.server
    assert str(folder) not in repr(settings)
