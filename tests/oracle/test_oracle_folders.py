"""A new folder is there whole or not at all, and no manifest names a file outside of its folder."""

import errno
from pathlib import Path
from typing import Any

import pytest

from npformer.oracle.files import inside, new_folder


def tree(folder: Path) -> dict[str, str]:
    """Return the text of every file below a folder."""
    return {str(each.relative_to(folder)): each.read_text() for each in folder.rglob("*") if each.is_file()}


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "cases") as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub" / "a").write_text("new")
        assert scratch.parent == tmp_path
        assert scratch.name.startswith(".")
        assert not (tmp_path / "cases").exists()
    assert tree(tmp_path) == {"cases/sub/a": "new"}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("replace", [False, True])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException], replace: bool) -> None:
    if replace:
        (tmp_path / "cases").mkdir()
        (tmp_path / "cases" / "a").write_text("old")
    before = tree(tmp_path)

    def write_half() -> None:
        with new_folder(tmp_path / "cases", replace=replace) as scratch:
            (scratch / "a").write_text("new")
            raise error

    with pytest.raises(error):
        write_half()
    assert tree(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == replace


def test_an_existing_folder_is_replaced_only_on_demand(tmp_path: Path) -> None:
    target = tmp_path / "cases"
    target.mkdir()
    (target / "a").write_text("old")
    with pytest.raises(FileExistsError) as caught, new_folder(target):
        pass
    assert caught.value.strerror == f"{target} must be the path of a new folder, but it exists already"
    assert caught.value.errno == errno.EEXIST
    assert tree(tmp_path) == {"cases/a": "old"}
    with new_folder(target, replace=True) as scratch:
        (scratch / "b").write_text("new")
        assert tree(target) == {"a": "old"}
    assert tree(tmp_path) == {"cases/b": "new"}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("failing", [1, 2])
def test_a_renaming_that_fails_leaves_the_old_folder(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "a").write_text("old")
    rename, calls = Path.rename, []

    def rename_or_fail(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_or_fail)
    with pytest.raises(OSError, match="Input/output"), new_folder(tmp_path / "cases", replace=True) as scratch:
        (scratch / "a").write_text("new")
    assert len(calls) >= failing
    assert tree(tmp_path) == {"cases/a": "old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_only_a_folder_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("old")
    for name in ("link", "dangling", "file"):
        with pytest.raises(NotADirectoryError, match="must be a folder to be replaced"):
            new_folder(tmp_path / name, replace=True).__enter__()
        with pytest.raises(FileExistsError):
            new_folder(tmp_path / name).__enter__()
    assert tree(tmp_path) == {"real/a": "old", "file": "old"}
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(FileNotFoundError):
        new_folder(tmp_path / "absent" / "cases").__enter__()


def test_inside_gives_the_path_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a.npz")
    (tmp_path / "to the folder").symlink_to(tmp_path)
    for name in ("a.npz", "sub/a.npz", "a..b", "link", "to the folder/a.npz", "..."):
        assert inside(tmp_path, name) == tmp_path / name
    assert inside(tmp_path / "to the folder", "a.npz") == tmp_path / "to the folder" / "a.npz"


OUTSIDE = {
    "..": "leads upwards",
    "../a": "leads upwards",
    "sub/../../a": "leads upwards",
    "/etc/passwd": "is absolute",
    "//host/share": "is absolute",
    "C:/a": "is absolute",
    "c:a": "is absolute",
    "..\\a": "holds a backslash",
    "\\\\host\\share": "holds a backslash",
    "a\0b": "holds a NUL",
    "\ud800": "is not valid Unicode",
    "": "is empty",
    ".": "is the folder itself",
    "out": "is a link that leads out of it",
    "out/a": "is a link that leads out of it",
    "chain": "is a link that leads out of it",
    "sibling/a": "is a link that leads out of it",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    (tmp_path / "cases and more").mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "chain").symlink_to("out/secret")
    (folder / "sibling").symlink_to("../cases and more")  # its path begins with that of the folder
    with pytest.raises(ValueError, match=r"^name must be the path of a file inside ") as caught:
        inside(folder, name)
    assert str(caught.value).endswith(OUTSIDE[name])
    assert len(str(caught.value).splitlines()) == 1


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="'loop' is a link to itself"):
        inside(tmp_path, "loop")


@pytest.mark.parametrize("name", [None, 1, ["a"], b"a"])
def test_a_name_must_be_a_text(tmp_path: Path, name: Any) -> None:
    with pytest.raises(TypeError, match=r"^name must be the path of a file inside "):
        inside(tmp_path, name)


def test_other_bad_arguments_get_a_sentence() -> None:
    folder: Any = 3
    replace: Any = "yes"
    with pytest.raises(TypeError, match="path must be a path, but it is an int"):
        inside(folder, "a")
    with pytest.raises(TypeError, match="path must be a path, but it is an int"):
        new_folder(folder).__enter__()
    with pytest.raises(TypeError, match="replace must be True or False, but it is a str"):
        new_folder("cases", replace).__enter__()
