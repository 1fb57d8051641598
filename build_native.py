"""Build the compiled modules: what pyproject.toml cannot say.

pyproject.toml lists the extension modules; here are NumPy's include folder, the flags of each
platform, where a developer's build keeps its objects, and one clear sentence when the compiler or
Python's headers are missing. A sanitizer build is asked for with
INFERSDK_SANITIZE=address|thread|undefined.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools.command.build_ext import build_ext

CXX_FLAGS = [
    "-std=c++17",
    "-O3",
    "-g1",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-unused-function",
]


class BuildNative(build_ext):
    """`build_ext` with our include folders and flags, and readable failures."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.inplace or self.editable_mode:
            # pip builds an editable install in a temporary folder, from nothing each time. Objects
            # that stay let it, and `build_ext --inplace`, compile only what changed.
            folder = Path("build", f"native-{sys.implementation.cache_tag}")
            self.build_temp = str(folder / "objects")
            self.build_lib = str(folder / "modules")

    def build_extensions(self) -> None:
        _check_toolchain(self.compiler)
        import numpy as np

        flags = list(CXX_FLAGS)
        link = ["-pthread"]
        if sys.platform.startswith("linux"):
            link += ["-ldl", "-Wl,--as-needed"]
        sanitizer = os.environ.get("INFERSDK_SANITIZE")
        if sanitizer:
            flags += [f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-O1"]
            link += [f"-fsanitize={sanitizer}"]
        headers = [
            str(path)
            for folder, pattern in (("csrc/include", "*.hpp"), ("infersdk/_native", "*.px[di]"))
            for path in sorted(Path(folder).rglob(pattern))
        ]
        for extension in self.extensions:
            extension.include_dirs += [np.get_include(), "csrc/include"]
            extension.extra_compile_args += flags
            extension.extra_link_args += link
            extension.define_macros += [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
            extension.depends += headers
        super().build_extensions()


def _check_toolchain(compiler: object) -> None:
    command = getattr(compiler, "compiler_cxx", None) or ["c++"]
    if shutil.which(command[0]) is None:
        raise SystemExit(
            f"infersdk: a C++17 compiler is needed and `{command[0]}` was not found; "
            "install it with: apt-get install g++ (Debian, Ubuntu)"
        )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        raise SystemExit(
            f"infersdk: Python's headers are needed and {header} was not found; "
            "install them with: apt-get install python3-dev (Debian, Ubuntu)"
        )
