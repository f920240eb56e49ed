#!/usr/bin/env python3
"""Checks what the compiler does not: that folders are layers, and that each library stays in its folder.

Errors (exit 1): an include against the layers, a third-party header outside its folder, a header without
`#pragma once`, a lambda that captures by [=]. Warnings (exit 0): long lines, functions and files.
The layers are drawn in docs/ARCHITECTURE.md; they change there and here together.
"""
import argparse
import os
import re
import sys

# folder: what it may include besides itself
LAYERS = {
    "core": [],
    "proto": ["core"],
    "storage": ["core", "proto"],
    "http": ["core"],
    "gateway": ["core", "http"],
    "cluster": ["core", "proto", "storage", "http"],
    "gpu": ["core"],
    "distill": ["core", "proto", "storage"],
    "actors": ["core", "proto", "storage", "http", "gateway", "cluster", "gpu", "distill"],
    "apps": ["core", "proto", "storage", "http", "gateway", "cluster", "gpu", "distill", "actors"],
}
EVERY_LAYER = list(LAYERS)
TOP_FOLDERS = {"tests": EVERY_LAYER, "bench": EVERY_LAYER, "examples": ["core", "actors"]}

# header prefix: folders that may include it. The longest prefix that fits decides.
THIRD_PARTY = {
    "spdlog/": ["core"],
    "tl/expected.hpp": ["core"],
    "date/": ["core"],
    "openssl/": ["core", "http"],
    "openssl/ssl.h": ["http"],
    "openssl/x509": ["http"],
    "capnp/": ["proto"],
    "kj/": ["proto"],
    "rocksdb/": ["storage"],
    "zstd.h": ["storage", "cluster"],
    # The coroutine types of http's public headers are Asio's.
    "boost/asio": ["http", "gateway", "cluster", "actors", "apps"],
    "boost/system": ["http", "gateway", "cluster", "actors", "apps"],
    "boost/beast": ["http"],
    "boost/context": ["tests"],
    "simdjson.h": ["gateway", "cluster", "gpu"],
    "nccl.h": ["gpu", "tests"],
    "pcre2.h": ["gpu"],
    "utf8proc.h": ["gpu"],
    "cublasLt.h": ["gpu", "tests"],
    "cuda_bf16.h": ["gpu", "tests"],
    "cuda_runtime.h": ["gpu", "tests"],
    "cuda_runtime_api.h": ["gpu", "tests"],
    "zmq.h": ["cluster"],
    "zmq.hpp": ["cluster"],
    "caf/": ["actors", "apps", "examples"],
    "toml++/": ["apps"],
    "CLI/": ["apps", "bench"],
    "nlohmann/": ["apps", "tests", "bench"],
    "catch2/": ["tests"],
    "benchmark/": ["bench"],
}
SYSTEM_FOLDERS = ("sys/", "netinet/", "arpa/", "net/", "linux/", "bits/")
C_HEADERS = {
    "dirent.h", "dlfcn.h", "errno.h", "execinfo.h", "fcntl.h", "grp.h", "ifaddrs.h", "limits.h", "malloc.h", "netdb.h",
    "poll.h", "pthread.h", "pwd.h", "sched.h", "signal.h", "spawn.h", "stdint.h", "stdlib.h", "string.h",
    "syslog.h", "termios.h", "time.h", "ucontext.h", "unistd.h",
}

LINE_LENGTH = 100
FUNCTION_LINES = 70
FILE_LINES = 400
SOURCES = (".hpp", ".cpp")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


class Report:
    def __init__(self):
        self.errors = []
        self.warnings = []

    def error(self, path, line, text):
        self.errors.append(f"{path}:{line}: error: {text}")

    def warn(self, path, line, text):
        self.warnings.append(f"{path}:{line}: warning: {text}")


def without_comments_and_strings(text):
    """The same text, line for line, with the inside of comments and literals blanked."""
    out = []
    i = 0
    while i < len(text):
        if text.startswith("//", i):
            end = text.find("\n", i)
            i = len(text) if end < 0 else end
        elif text.startswith("/*", i):
            end = text.find("*/", i + 2)
            end = len(text) if end < 0 else end + 2
            out.append("\n" * text.count("\n", i, end))
            i = end
        elif text.startswith('R"', i) and not (i > 0 and (text[i - 1].isalnum() or text[i - 1] == "_")):
            opening = text.find("(", i)
            closing = ")" + text[i + 2:opening] + '"'
            end = text.find(closing, opening)
            end = len(text) if end < 0 else end + len(closing)
            out.append('""' + "\n" * text.count("\n", i, end))
            i = end
        elif text[i] == '"' or (text[i] == "'" and not (i > 0 and text[i - 1].isalnum())):
            quote = text[i]
            i += 1
            while i < len(text) and text[i] != quote and text[i] != "\n":
                i += 2 if text[i] == "\\" else 1
            out.append(quote * 2)
            i += 1
        else:
            out.append(text[i])
            i += 1
    return "".join(out)



def check_own_include(path, number, header, folder, mirrored, report):
    target = header.split("/")[0]
    if "/" not in header or (target not in LAYERS and target not in TOP_FOLDERS):
        report.error(path, number, f'"{header}" is not a path from the root; write "FOLDER/{os.path.basename(header)}"')
        return
    if target == folder:
        return
    allowed = TOP_FOLDERS.get(folder, LAYERS.get(folder, []))
    if header.endswith(".capnp.h") and folder != "proto" and mirrored != "proto":
        report.error(path, number, f'"{header}" is generated code of Cap\'n Proto, which stays in proto/')
    elif target not in allowed:
        known = ", ".join(allowed) or "nothing else"
        report.error(path, number, f'{folder}/ may not include {target}/ ("{header}"); it may include {known}')


def check_third_party(path, number, header, folder, mirrored, report):
    if "." not in header and "/" not in header:
        return  # the standard library
    if header in C_HEADERS or header.startswith(SYSTEM_FOLDERS) or header == "cxxabi.h":
        return
    fitting = [prefix for prefix in THIRD_PARTY if header.startswith(prefix)]
    if not fitting:
        report.error(path, number, f"<{header}> is of no known library; name its folder in tests/tidy/tidy.py")
        return
    allowed = THIRD_PARTY[max(fitting, key=len)]
    # Tests and benchmarks of a folder may use what the folder uses.
    if folder in allowed or mirrored in allowed or folder == "bench":
        return
    report.error(path, number, f"<{header}> belongs to {', '.join(a + '/' for a in allowed)} and not to {folder}/")


def check_lengths(path, lines, code, report):
    if len(lines) > FILE_LINES:
        report.warn(path, 1, f"{len(lines)} lines; a file holds one idea in at most {FILE_LINES}")
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_LENGTH:
            report.warn(path, number, f"{len(line)} columns; at most {LINE_LENGTH}")
    if path.startswith("tests/"):
        return  # a test case may be as long as its table
    for first, last in functions(code):
        if last - first + 1 > FUNCTION_LINES:
            report.warn(path, first, f"a function of {last - first + 1} lines; at most {FUNCTION_LINES}")


CONTROL = re.compile(r"\b(if|for|while|switch|catch|namespace|class|struct|enum|union|do|else|try)\b")


def functions(code):
    """First and last line of each outermost brace block that follows a parameter list."""
    stack = []  # (is_function, line)
    inside = 0
    head = ""
    line = 1
    head_line = 1
    for c in code:
        if c == "\n":
            line += 1
        if c == "{":
            is_function = inside == 0 and ")" in head and not CONTROL.search(head)
            stack.append((is_function, head_line))
            inside += is_function
            head = ""
        elif c == "}":
            if stack:
                is_function, first = stack.pop()
                if is_function:
                    inside -= 1
                    yield first, line
            head = ""
        elif c == ";":
            head = ""
        elif c.strip():
            if not head:
                head_line = line
            head += c
        elif head:
            head += " "


def check_file(root, path, report):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        text = file.read()
    lines = text.removesuffix("\n").split("\n")
    parts = path.split("/")
    folder = parts[0]
    mirrored = parts[1] if folder == "tests" and len(parts) > 2 else ""
    if mirrored in ("e2e", "interop"):
        mirrored = "apps"
    code = without_comments_and_strings(text)
    code_lines = code.split("\n")
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match or "#" not in code_lines[number - 1]:
            continue
        check = check_own_include if match.group(1) == '"' else check_third_party
        check(path, number, match.group(2), folder, mirrored, report)
    for number, line in enumerate(code_lines, 1):
        if re.search(r"\[=[],]", line):
            report.error(path, number, "a lambda captures by [=]; list what it captures")
    if path.endswith(".hpp") and not re.search(r"^#pragma once$", code, re.MULTILINE):
        report.error(path, 1, "a header without #pragma once")
    check_lengths(path, lines, code, report)


def source_files(root):
    for top in sorted([*LAYERS, *TOP_FOLDERS]):
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if name.endswith(SOURCES):
                    yield os.path.relpath(os.path.join(folder, name), root)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("--quiet", action="store_true", help="count warnings without listing them")
    arguments = parser.parse_args()
    report = Report()
    count = 0
    for path in source_files(arguments.root):
        check_file(arguments.root, path, report)
        count += 1
    for text in report.errors if arguments.quiet else report.warnings + report.errors:
        print(text)
    print(f"{count} files, {len(report.errors)} errors, {len(report.warnings)} warnings")
    if count == 0:
        print(f"no sources under {arguments.root}; give the tree with --root", file=sys.stderr)
        return 2
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
