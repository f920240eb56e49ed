#!/usr/bin/env python3
"""tidy.py finds each kind of offence in a tree made for it, and nothing in a tree without."""
import os
import subprocess
import sys
import tempfile
import unittest

TIDY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tidy.py")


class TidyTest(unittest.TestCase):
    def run_on(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run([sys.executable, TIDY, "--root", root], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout

    def assert_error(self, files, expected):
        code, output = self.run_on(files)
        self.assertEqual(code, 1, output)
        self.assertIn(expected, output)

    def assert_clean(self, files):
        code, output = self.run_on(files)
        self.assertEqual(code, 0, output)
        self.assertIn(" 0 errors, 0 warnings", output)

    def test_a_tree_that_keeps_the_layers_is_clean(self):
        self.assert_clean({
            "core/a.hpp": "#pragma once\n#include <vector>\n#include <sys/random.h>\n",
            "core/crypto.cpp": "#include <openssl/sha.h>\n#include \"core/a.hpp\"\n",
            "gateway/b.cpp": "#include <boost/asio/awaitable.hpp>\n#include <simdjson.h>\n#include \"http/c.hpp\"\n",
            "tests/gateway/b_test.cpp": "#include <catch2/catch.hpp>\n#include <simdjson.h>\n#include \"apps/x.hpp\"\n",
        })

    def test_an_include_against_the_layers_is_an_error(self):
        self.assert_error({"http/a.cpp": '#include "gateway/lane.hpp"\n'},
                          "http/a.cpp:1: error: http/ may not include gateway/")
        self.assert_error({"core/a.cpp": '\n#include "proto/frame.hpp"\n'}, "core/a.cpp:2: error: core/ may not include")
        self.assert_error({"core/a.cpp": '#include "tests/core/x.hpp"\n'}, "core/ may not include tests/")

    def test_an_include_that_is_not_from_the_root_is_an_error(self):
        self.assert_error({"core/a.cpp": '#include "a.hpp"\n'}, 'write "FOLDER/a.hpp"')
        self.assert_error({"core/a.cpp": '#include "../http/a.hpp"\n'}, "is not a path from the root")

    def test_a_library_outside_its_folder_is_an_error(self):
        self.assert_error({"gateway/a.cpp": "#include <boost/beast/http.hpp>\n"}, "belongs to http/ and not to gateway/")
        self.assert_error({"core/a.cpp": "#include <openssl/ssl.h>\n"}, "belongs to http/ and not to core/")
        self.assert_error({"storage/a.cpp": "# include <caf/actor.hpp>\n"}, "belongs to actors/, apps/, examples/")
        self.assert_error({"tests/core/a.cpp": "#include <rocksdb/db.h>\n"}, "belongs to storage/ and not to tests/")

    def test_generated_code_of_capnp_stays_in_proto(self):
        self.assert_error({"storage/a.cpp": '#include "proto/ledger.capnp.h"\n'}, "which stays in proto/")

    def test_an_unknown_library_is_an_error(self):
        self.assert_error({"core/a.cpp": "#include <fmt/core.h>\n"}, "of no known library")

    def test_an_include_in_a_comment_or_text_is_none(self):
        self.assert_clean({"core/a.cpp": '/*\n#include <fmt/core.h>\n*/\nauto x = R"(\n#include <fmt/core.h>\n)";\n'})

    def test_headers_need_pragma_once(self):
        self.assert_error({"core/a.hpp": "// #pragma once\n"}, "core/a.hpp:1: error: a header without #pragma once")

    def test_a_lambda_that_captures_everything_is_an_error(self):
        self.assert_error({"core/a.cpp": "auto f = [=] { return 1; };\n"}, "core/a.cpp:1: error: a lambda captures")

    def test_lengths_are_warnings(self):
        body = "".join(f"  call({n});\n" for n in range(70))
        code, output = self.run_on({
            "core/a.cpp": f"namespace x {{\nvoid f(int a) {{\n{body}}}\nvoid g() {{\n}}\n}}\n",
            "core/b.cpp": "// " + "x" * 98 + "\n" + "\n" * 400,
        })
        self.assertEqual(code, 0, output)
        self.assertIn("core/a.cpp:2: warning: a function of 72 lines", output)
        self.assertIn("core/b.cpp:1: warning: 101 columns", output)
        self.assertIn("core/b.cpp:1: warning: 401 lines", output)
        self.assertIn("0 errors, 3 warnings", output)

    def test_an_empty_tree_is_refused(self):
        code, _ = self.run_on({"docs/readme.md": "x"})
        self.assertEqual(code, 2)


if __name__ == "__main__":
    unittest.main()
