#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page of `qwerky serve` in headless Chromium, against mock_server.py, or against a real server:

    tests/page/page_test.py [-v] [NAME…]                                   # a mock server for each case
    tests/page/page_test.py --url http://127.0.0.1:8080/ [--key KEY]       # what holds for any model
    tests/page/page_test.py --screenshots DIR                              # 1280 and 390 px, light and dark

Needs chromium, chromium-driver (Debian) and selenium (PyPI; a virtual environment). Exit status 77 where they are missing, after the checks of
the source that need neither.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

import mock_server

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    webdriver = None

URL, KEY = None, None
HOSTILE = {"format": "qwerky-conversation", "version": 1, "system": "", "settings": {}, "turns": [
    {"user": "<b>bold</b>", "chosen": 0, "answers": [{"model": "<i>m</i>", "role": "x y", "text": mock_server.HOSTILE, "state": "done",
                                                      "usage": {"prompt_tokens": "<u>", "completion_tokens": "<u>"}, "timings": {"tokens_per_second": "<u>"}}]}]}


class Source(unittest.TestCase):
    """What the file promises, read from the file."""

    page = mock_server.whole_page()

    def test_one_small_file(self):
        self.assertLess(len(self.page.encode()), 60_000)
        self.assertEqual(len(re.findall(r"<style>", self.page)), 1)
        self.assertEqual(len(re.findall(r"<script>", self.page)), 1)

    def test_no_way_from_text_to_html(self):
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "createContextualFragment", "eval(", "new Function"):
            self.assertNotIn(way, self.page)

    def test_nothing_that_a_strict_policy_forbids(self):
        markup = re.sub(r"<(style|script)>.*?</\1>", "", self.page, flags=re.S)
        self.assertEqual(re.findall(r"\s(?:on\w+|style)=", markup), [])

    def test_no_other_host(self):
        self.assertEqual(set(re.findall(r"(?:https?:)?//[\w.]+\w/?[\w/]*", re.sub(r"(?m)^\s*//.*|\s// .*", "", self.page))), {"http://www.w3.org/2000/svg"})


def browser(width=1280, height=860, dark=False):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--force-prefers-reduced-motion"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    return driver


class Page:
    """The page as its reader sees it."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get("about:blank")
        driver.get(url)
        driver.execute_script("sessionStorage.clear()")
        driver.get(url)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return self.driver.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def text(self, selector):
        return "\n".join(self.texts(selector))

    def until(self, what, seconds=60):
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: what())

    def ready(self):
        self.until(lambda: "connecting" not in self.text("#model"))
        return self

    def is_idle(self):
        return self.text("#send") == "Send"

    def type(self, text):
        self.find("#message").send_keys(text)

    def ask(self, text, wait=True):
        self.type(text + Keys.ENTER)
        if wait:
            self.until(self.is_idle)

    def click(self, selector):
        self.find(selector).click()

    def choose(self, label):
        for option in self.all("#model option"):
            if label in option.text:
                option.click()
                return
        raise AssertionError(f"no model {label}")

    def imported(self, value):
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(value, file)
        self.driver.execute_script("document.getElementById('file').hidden = false")
        self.find("#file").send_keys(file.name)
        self.until(lambda: self.find("#file").get_property("value") == "")
        os.unlink(file.name)


class InBrowser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.driver = browser()
        cls.addClassCleanup(cls.driver.quit)

    def tearDown(self):
        """No script failed and the policy kept nothing back. That a request was refused is no fault of the page."""
        log = [entry["message"] for entry in self.driver.get_log("browser") if "Failed to load resource" not in entry["message"]]
        self.assertEqual(log, [])

    def harmless(self, page):
        self.assertIsNone(self.driver.execute_script("return window.harmed ?? null"))
        self.assertEqual(page.all("#log :is(img, script, iframe, svg, a, b:not(.who b), i, u)"), [])


class AnyServer(InBrowser):
    """Holds for every model, so also against a real server."""

    def setUp(self):
        self.server = None if URL else mock_server.start()
        self.page = Page(self.driver, URL or self.server.url)
        if KEY:
            self.page.until(lambda: self.page.all("#keyDialog[open]"))
            self.page.find("#key").send_keys(KEY + Keys.ENTER)
        self.page.ready()
        if self.page.find("#model").get_property("value") == "":  # side by side: the first listed alone
            self.page.all("#model option")[1].click()

    def test_send_and_stream(self):
        page = self.page
        self.driver.execute_script("""
            window.lengths = new Set();
            new MutationObserver(() => window.lengths.add(document.querySelector('.text')?.textContent.length ?? 0))
              .observe(document.getElementById('log'), {childList: true, subtree: true, characterData: true})""")
        page.ask("Tell me a story.")
        self.assertEqual(page.texts(".asked > div"), ["Tell me a story."])
        self.assertTrue(page.text(".text").strip())
        self.assertGreater(self.driver.execute_script("return window.lengths.size"), 3, "the text did not grow piece by piece")
        self.assertEqual(page.text(".failed").strip(), "")
        self.assertRegex(page.text(".figures"), r"tokens/s.*first token [\d.]+ m?s.*\d+ read.*\d+ reused.*\d+ written")
        self.assertIn(page.text(".text").strip()[-20:], page.text("#status"))

    def test_second_turn_reuses_the_first(self):
        self.page.ask("Who was she?")
        self.page.ask("And then?")
        self.assertGreater(int(re.search(r"([\d,]+) reused", self.page.texts(".figures")[1])[1].replace(",", "")), 0)

    def test_stop_keeps_what_came(self):
        page = self.page
        self.driver.execute_script("""
            new MutationObserver(() => { if (document.querySelector('.text')?.textContent) stop(); })
              .observe(document.getElementById('log'), {childList: true, subtree: true})""")
        page.ask("long")
        self.assertTrue(page.text(".text"))
        if URL and self.driver.execute_script("return turns[0].answers[0].finish"):
            self.skipTest("the model had ended by itself")
        self.assertIn("stopped", page.text(".figures"))

    def test_retry_with_a_seed_is_the_same(self):
        page = self.page
        page.find("#set-seed").send_keys("7")
        page.find("#set-temperature").send_keys("0.8")
        page.find("#set-max_tokens").send_keys("24")
        page.ask("Once upon a time")
        first = page.text(".text")
        page.click(".foot button")
        page.until(page.is_idle)
        self.assertEqual(page.text(".text"), first)
        self.assertEqual(len(page.all(".turn")), 1)

    def test_edit_replaces_the_last_turn(self):
        page = self.page
        page.ask("first")
        page.ask("secnd")
        page.type("a draft")
        page.all(".asked button")[-1].click()
        self.assertEqual(page.find("#message").get_property("value"), "secnd")
        page.type(Keys.ESCAPE)
        self.assertEqual(page.find("#message").get_property("value"), "a draft")
        page.all(".asked button")[-1].click()
        page.find("#message").clear()
        page.ask("second")
        self.assertEqual(page.texts(".asked > div"), ["first", "second"])

    def test_every_setting_is_known_to_the_server(self):
        page = self.page
        for details in page.all("#settings summary"):
            details.click()
        for name, value in {"temperature": .8, "top_p": .9, "top_k": 40, "min_p": .05, "typical_p": .95, "max_tokens": 8, "seed": 3, "presence_penalty": .1,
                            "frequency_penalty": .1, "repetition_penalty": 1.1, "penalty_window": 64, "dry_multiplier": .8, "dry_base": 1.75,
                            "dry_allowed_length": 2, "xtc_probability": .1, "xtc_threshold": .1, "mirostat": 0, "mirostat_tau": 5, "mirostat_eta": .1}.items():
            page.find(f"#set-{name}").send_keys(str(value))
        self.assertEqual([e.get_attribute("id") for e in page.all("#settings input") if not e.get_property("value")], [])
        page.ask("Hello")
        self.assertEqual(page.text(".failed").strip(), "")
        self.assertTrue(page.text(".text"))
        page.find("#set-temperature").clear()
        page.find("#set-temperature").send_keys("-3")
        page.ask("Hello again")
        self.assertIn("temperature", page.texts(".failed")[-1])

    def test_hostile_conversation_is_text(self):
        self.page.imported(HOSTILE)
        self.assertIn("<img src=x onerror=", self.page.text(".text"))
        self.assertEqual(self.page.texts(".asked > div"), ["<b>bold</b>"])
        self.assertEqual(self.page.texts(".text strong"), ["<script>window.harmed=1</script>"])
        self.harmless(self.page)

    def test_export_comes_back_by_import(self):
        page = self.page
        page.find("#system").send_keys("You are terse.")
        page.ask("Hello")
        saved = self.driver.execute_script("return conversation()")
        page.click("#newChat")
        self.assertEqual(page.all(".turn"), [])
        page.imported(saved)
        self.assertEqual(self.driver.execute_script("return conversation()"), saved)
        page.imported({"messages": []})
        self.assertIn("Not a conversation", page.text("#fileError"))
        self.assertEqual(len(page.all(".turn")), 1)

    def test_memory_lines(self):
        page = self.page
        if not page.texts("#sizes *"):
            self.skipTest("the server tells no sizes")
        before = page.text("#memoryLine")
        page.ask("Tell me a story.")
        self.assertNotEqual(page.text("#memoryLine"), before)
        self.assertTrue(page.all("#chart path.kv"))
        self.assertRegex(page.find("#chart").get_attribute("aria-label"), r"^At [\d,]+ tokens: .*KV cache")

    def test_conversation_survives_a_reload(self):
        self.page.ask("Hello")
        text = self.page.text(".text")
        self.driver.refresh()
        self.page.ready()
        self.assertEqual(self.page.text(".text"), text)

    def test_side_by_side(self):
        page = self.page
        if "Side by side" not in page.text("#model"):
            self.skipTest("one model")
        page.choose("Side by side")
        page.ask("Tell me a story.")
        self.assertEqual(len(page.all(".pair .answer")), 2)
        saved = self.driver.execute_script("return turns[0].answers.map(({seed, text}) => ({seed, text}))")
        self.assertEqual(saved[0]["seed"], saved[1]["seed"])
        if saved[0]["text"] != saved[1]["text"]:
            self.assertEqual(len(page.all(".pair .answer mark")), 2)
            self.assertIn("marked in both", page.text(".difference"))


class Mocked(InBrowser):
    """What takes a server that does as it is told."""

    def open(self, **options):
        self.server = mock_server.start(**options)
        self.addCleanup(self.server.shutdown)
        return Page(self.driver, self.server.url)

    def test_request_has_what_was_set_and_nothing_else(self):
        page = self.open(alone=True).ready()
        page.ask("Hello")
        seed = self.server.requests[0].pop("seed")
        self.assertTrue(0 <= seed < 2**32)
        self.assertEqual(self.server.requests[0], {"model": "stories-rwkv7", "messages": [{"role": "user", "content": "Hello"}], "stream": True,
                                                   "stream_options": {"include_usage": True}})
        page.find("#system").send_keys("You are terse.")
        page.find("#set-top_k").send_keys("40")
        page.ask("Again")
        self.assertEqual(self.server.requests[1]["top_k"], 40)
        self.assertEqual([m["role"] for m in self.server.requests[1]["messages"]], ["system", "user", "assistant", "user"])
        self.assertEqual(self.server.requests[1]["messages"][2]["content"], page.texts(".text")[0])

    def test_side_by_side(self):
        page = self.open().ready()
        page.ask("Tell me a story.")
        self.assertEqual(page.texts(".who b"), ["Teacher", "Student"])
        self.assertEqual(len({r["seed"] for r in self.server.requests}), 1)
        self.assertEqual(page.texts("mark"), ["sky.", "park,"])
        self.assertIn("The same for 41 characters (11 words)", page.text(".difference"))
        page.all(".who input")[0].click()  # goes on from the teacher's answer
        page.ask("twin")
        for request in self.server.requests[2:]:
            self.assertIn("sky", request["messages"][1]["content"])
        self.assertEqual(page.texts(".difference")[1], "Both answers are the same.")
        self.assertEqual(len(page.all("mark")), 2)

    def test_memory_numbers(self):
        page = self.open().ready()
        page.ask("Tell me a story.")
        usage = self.driver.execute_script("return turns[0].answers[1].usage")
        tokens = usage["prompt_tokens"] + usage["completion_tokens"]
        self.assertIn("State 96 KiB", page.text("#memoryLine"))
        self.assertEqual(float(re.search(r"need ([\d.]+) KiB", page.text("#memoryLine"))[1]), float(f"{tokens * 1.5:.3g}"))
        self.assertIn("larger from token 64 on", page.text("#memoryNote"))

    def test_hostile_output(self):
        page = self.open(alone=True).ready()
        page.ask("hostile")
        self.assertIn("<img src=x onerror=", page.text(".text"))
        self.assertIn("<iframe", page.text(".text pre"))
        self.harmless(page)

    def test_markdown(self):
        page = self.open(alone=True, delay=0.001).ready()
        page.ask("markdown")
        self.assertEqual(page.texts(".text h3"), ["What changes"])
        self.assertEqual(page.texts(".text strong"), ["everything but the mixer"])
        self.assertEqual(page.texts(".text ol > li > ul > li"), ["on the teacher's inputs", "layer by layer"])
        self.assertEqual([li.get_property("value") for li in page.all(".text ol > li")], [1, 2, 3])
        self.assertIn("S = S * diag(w[t])", page.text(".text pre code"))
        self.assertIn("Unclosed **marks and 2 * 3 * 4 stay", page.text(".text"))

    def test_mark_in_markdown(self):
        page = self.open().ready()
        for a, b, marks in [("one **two** three", "one **twx** three", ["o", "x"]), ("- a\n- b", "- a\n- c", ["b", "c"]), ("```\nx\n```", "```\ny\n```", ["x", "y"]),
                            ("same", "same and more", ["end", " and"]), ("你好吗", "你好啊", ["吗", "啊"]), ("a *b*", "a `b`", ["b", "b"])]:
            page.imported({"format": "qwerky-conversation", "version": 1, "turns": [{"user": "?", "chosen": 1, "answers": [
                {"model": "t", "role": "teacher", "text": a, "state": "done", "finish": "stop"}, {"model": "s", "role": "student", "text": b, "state": "done", "finish": "stop"}]}]})
            self.assertEqual(page.texts("mark"), marks, (a, b))

    def test_hostile_text_takes_linear_time(self):
        self.open(alone=True).ready()
        for text in ("'**a '.repeat(25e4)", "'`a\\n'.repeat(25e4)", "('*a' + ' '.repeat(1e3)).repeat(1e3)", "'```\\n'.repeat(2e5)",
                     "'```' + ' '.repeat(3e5) + '!'", "' '.repeat(3e5) + '!'",
                     "Array.from({length: 1500}, (_, i) => ' '.repeat(2 * i) + '- x').join('\\n')"):
            seconds = self.driver.execute_script(f"""
                const text = {text}, parent = document.createElement('div'), start = performance.now();
                putMarkdown(parent, text, text.length - 1);
                putMarkdown(parent, text + 'x', -1);
                return (performance.now() - start) / 1000""")
            self.assertLess(seconds, 10, text)  # 0.2 s as a rule; the square of the length would take minutes

    def test_errors_in_the_words_of_the_server(self):
        page = self.open(alone=True).ready()
        page.ask("error")
        self.assertEqual(page.text(".failed"), "the queue is full: 256 requests wait\nTry again in 3 s.")
        page.ask("broken")
        self.assertEqual(page.texts(".failed")[1], "the state cache ran out of memory")
        page.ask("cut")
        self.assertEqual(page.texts(".failed")[2], "The connection ended before the answer did.")
        self.assertTrue(page.texts(".text")[2])
        # What failed without a word is not part of what the model reads.
        self.assertEqual([m["content"] for m in self.server.requests[2]["messages"] if m["role"] == "user"], ["broken", "cut"])
        self.server.shutdown()
        self.server.server_close()
        page.ask("anyone?")
        self.assertIn("cannot be reached", page.texts(".failed")[3])

    def test_limit(self):
        page = self.open(alone=True).ready()
        page.ask("limit")
        self.assertIn("cut at max tokens", page.text(".figures"))

    def test_key(self):
        page = self.open(key="sesame")
        page.until(lambda: page.all("#keyDialog[open]"))
        page.find("#key").send_keys("wrong" + Keys.ENTER)
        page.until(lambda: "missing or wrong" in page.text("#keyError"))
        page.find("#key").send_keys("sesame" + Keys.ENTER)
        page.ready()
        page.ask("Hello")
        self.assertEqual(page.text(".failed").strip(), "")
        kept = self.driver.execute_script("return [{...sessionStorage}, {...localStorage}, document.cookie]")
        self.assertEqual([name for name, value in kept[0].items() if "sesame" in value], ["qwerky.key"])
        self.assertEqual(kept[1:], [{}, ""])
        self.assertNotIn("sesame", json.dumps(self.driver.execute_script("return conversation()")))

    def test_no_key_given(self):
        page = self.open(key="sesame")
        page.until(lambda: page.all("#keyDialog[open]"))
        page.click("#cancelKey")
        page.until(lambda: "API key is missing" in page.text("#about"))
        page.type("Hello" + Keys.ENTER)  # asks once more
        page.until(lambda: page.all("#keyDialog[open]"))
        page.find("#key").send_keys("sesame" + Keys.ENTER)
        page.ready().ask("")
        self.assertEqual(page.texts(".asked > div"), ["Hello"])

    def test_stop_closes_the_connection(self):
        page = self.open(alone=True).ready()
        page.ask("long", wait=False)
        page.until(lambda: "word5" in page.text(".text"))
        page.click("#send")
        page.until(page.is_idle)
        page.until(lambda: self.server.left)
        self.assertLess(self.server.left[0], 4000)

    def test_new_chat_while_an_answer_comes(self):
        page = self.open(alone=True).ready()
        page.ask("long", wait=False)
        page.until(lambda: "word5" in page.text(".text"))
        page.click("#newChat")
        page.ask("Hello")
        self.assertEqual(page.texts(".asked > div"), ["Hello"])
        self.assertEqual(len(self.server.requests[1]["messages"]), 1)
        self.assertNotIn("word", page.text(".text"))

    def test_reading_on_while_text_comes(self):
        page = self.open(alone=True, delay=0.002).ready()
        page.ask("long", wait=False)
        page.until(lambda: self.driver.execute_script("const s = document.getElementById('scroller'); return s.scrollTop > 200"))
        self.driver.execute_script("document.getElementById('scroller').scrollTop = 0")
        length = len(page.text(".text"))
        page.until(lambda: len(page.text(".text")) > length + 2000)
        self.assertEqual(self.driver.execute_script("return document.getElementById('scroller').scrollTop"), 0)
        page.type(Keys.ESCAPE)
        page.until(page.is_idle)

    def test_nothing_but_openai(self):
        page = self.open(bare=True).ready()
        page.choose("stories-rwkv7")
        page.ask("Hello")
        self.assertRegex(page.text(".figures"), r"tokens/s.*first token.*\d+ written")
        self.assertIn("does not tell", page.text("#memoryNote"))
        self.assertFalse(page.find("#chart").is_displayed())

    def test_under_a_prefix_and_while_loading(self):
        page = self.open(prefix="/models/a", loading=2)
        page.until(lambda: "the model is loading" in page.text("#about"))
        page.ready()
        page.ask("Hello")
        self.assertEqual(page.text(".failed").strip(), "")

    def test_keyboard_alone(self):
        page = self.open(alone=True).ready()
        self.assertEqual(self.driver.switch_to.active_element.get_attribute("id"), "message")
        page.type("one" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "two" + Keys.ENTER)
        page.until(page.is_idle)
        self.assertEqual(page.texts(".asked > div"), ["one\ntwo"])
        reached = set()
        for _ in range(40):
            self.driver.switch_to.active_element.send_keys(Keys.TAB)
            element = self.driver.switch_to.active_element
            reached.add(element.get_attribute("id") or element.text)
            if element.tag_name in ("button", "input", "textarea"):
                self.assertNotEqual(element.value_of_css_property("outline-style"), "none", element.get_attribute("id"))
        self.assertLessEqual({"newChat", "panelButton", "send", "system", "set-seed", "export", "import", "Edit", "Retry"}, reached)

    def test_phone(self):
        driver = browser(390, 800)
        self.addCleanup(driver.quit)
        server = mock_server.start()
        page = Page(driver, server.url).ready()
        self.assertFalse(page.find("#panel").is_displayed())
        page.ask("markdown")
        self.assertLessEqual(driver.execute_script("return document.documentElement.scrollWidth"), 390)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        page.type("two" + Keys.ENTER + "lines")
        page.click("#send")
        page.until(page.is_idle)
        self.assertEqual(page.texts(".asked > div")[-1], "two\nlines")
        page.click("#panelButton")
        self.assertTrue(page.find("#panel").is_displayed())
        self.assertTrue(driver.execute_script("return document.getElementById('main').inert"))
        driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        self.assertFalse(page.find("#panel").is_displayed())
        self.assertEqual(driver.switch_to.active_element.get_attribute("id"), "panelButton")


def screenshots(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in ((1280, 860), (390, 800)):
        for dark in (False, True):
            driver = browser(width, height, dark)
            name = f"{width}-{'dark' if dark else 'light'}"
            server = mock_server.start(key="sesame", delay=0.005)
            page = Page(driver, server.url)

            def shot(what):
                driver.save_screenshot(str(folder / f"{name}-{what}.png"))

            page.until(lambda: page.all("#keyDialog[open]"))
            shot("key")
            page.find("#key").send_keys("sesame" + Keys.ENTER)
            page.ready()
            shot("empty")
            page.ask("Tell me a story about a ball.")
            page.ask("error")
            shot("pair")
            page.choose("rwkv7")
            page.click("#newChat")
            page.ask("markdown what does a conversion change, and what stays?")
            shot("markdown")
            page.ask("long", wait=False)
            page.until(lambda: "word60" in page.text(".text"))
            shot("live")
            page.type(Keys.ESCAPE)
            page.until(page.is_idle)
            if width < 600:
                page.click("#panelButton")
            driver.execute_script("document.querySelectorAll('#settings details').forEach(d => d.open = true)")
            shot("panel")
            driver.quit()


def main():
    global URL, KEY
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a real server's page")
    parser.add_argument("--key")
    parser.add_argument("--screenshots", metavar="DIR")
    arguments, rest = parser.parse_known_args()
    URL, KEY = arguments.url, arguments.key
    missing = [name for name, there in [("selenium", webdriver), ("chromium", shutil.which("chromium")), ("chromedriver", shutil.which("chromedriver"))] if not there]
    if arguments.screenshots and not missing:
        return screenshots(arguments.screenshots)
    names = [name for name in rest if not name.startswith("-")]
    classes = [Source] if missing else [AnyServer] if URL else [Source, AnyServer, Mocked]
    suite = unittest.TestSuite(case for kind in classes for case in unittest.defaultTestLoader.loadTestsFromTestCase(kind)
                               if not names or any(name in case.id() for name in names))
    if not unittest.TextTestRunner(verbosity=2 if "-v" in rest else 1).run(suite).wasSuccessful():
        return 1
    if missing:
        print(f"skipped: no {', '.join(missing)}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
