"""The code blocks of README and docs, and who sees to it that each is right.

A block of shell is run by `test_blocks.py` unless a line here says otherwise; so is what follows a prompt.
Any other block has a line: the test that runs or reads it, or the reason why nothing can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?:    \S.*\n)+")
PROMPT = "$ isotherm "


@dataclass(frozen=True)
class Block:
    page: str  # from the root of the repository
    language: str  # as the page has it; `indented` is one without a fence
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0][:60]}"

    @property
    def commands(self) -> bool:
        """Somebody types it, all of it or what stands behind a prompt."""
        typed = self.text.startswith(PROMPT) or (self.language == "indented" and self.text.startswith("isotherm "))
        return self.language in ("sh", "bash") or typed


def blocks() -> Iterator[Block]:
    for path in PAGES:
        page, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        yield from (Block(page, *found) for found in FENCED.findall(text))
        for found in INDENTED.findall(FENCED.sub("", text)):
            yield Block(page, "indented", re.sub("^    ", "", found, flags=re.MULTILINE))


@dataclass(frozen=True)
class Line:
    """`why` is said of the blocks of a page in a language; of one alone if its beginning is given."""

    page: str
    language: str
    why: str  # the path of a test, or a reason
    begins: str = ""

    def is_about(self, block: Block) -> bool:
        return (block.page, block.language) == (self.page, self.language) and block.text.startswith(self.begins)


HERE = "tests/docs/test_blocks.py"
TESTED = [
    Line("README.md", "json", "tests/test_docs.py", '{\n  "specversion"'),
    Line("README.md", "sh", HERE, "make "),
    Line("README.md", "yaml", "tests/test_docs.py"),
    Line("docs/alerts.md", "sh", HERE, "isotherm alerts listen"),
    Line("docs/alerts.md", "sh", HERE, "export ISOTHERM_ALERT_URL="),
    Line("docs/alerts.md", "text", HERE),
    Line("docs/alerts.md", "yaml", "tests/alerting/test_page.py"),
    Line("docs/api.md", "json", HERE),
    Line("docs/api.md", "sh", HERE, "isotherm serve"),
    Line("docs/api.md", "sh", "tests/api/test_page.py", "curl "),
    Line("docs/changing-rules.md", "", "tests/planning/test_planning.py", "ACL SETUSER planner"),
    Line("docs/changing-rules.md", "", "tests/planning/test_planning.py", "$ isotherm plan rules --top 3"),
    Line("docs/changing-rules.md", "", HERE, "account.log/0 has been shortened"),
    Line("docs/destinations.md", "yaml", "tests/sinks/test_destinations.py"),
    Line("docs/dashboard.md", "", "tests/page/test_remembering.py", "(~isotherm:{sizes}"),
    Line("docs/metrics.md", "json", "tests/observing/test_logs.py"),
    Line("docs/metrics.md", "sh", HERE, "export ISOTHERM_METRICS_PORT="),
    Line("docs/metrics.md", "yaml", HERE),
    Line("docs/operations.md", "", "tests/security/conftest.py", "user default off"),
    Line("docs/operations.md", "", HERE, "25 accounts compared"),
    Line("docs/operations.md", "", HERE, "What differed"),
    Line("docs/operations.md", "sh", "tests/security/conftest.py", "acl() {"),
    Line("docs/operations.md", "sh", HERE, "export ISOTHERM_KAFKA=kafka.example.com"),
    Line("docs/operations.md", "yaml", HERE, "kind: contact"),
    Line("docs/quick-start.md", "sh", "tests/docs/test_quick_start.py"),
    Line("docs/quick-start.md", "text", "tests/docs/test_quick_start.py"),
    Line("docs/recipes.md", "python", HERE),
    Line("docs/rule-language.md", "yaml", "tests/test_docs.py"),
    Line("docs/sources.md", "json", "tests/test_docs.py"),
    Line("docs/sources.md", "sh", "tests/test_docs.py"),
    Line("docs/sources.md", "yaml", "tests/test_docs.py"),
    Line("docs/subscribing.md", "python", "tests/subscribers/test_consumers.py"),
    Line("docs/subscribing.md", "javascript", "tests/subscribers/test_consumers.py"),
    Line("docs/subscribing.md", "java", "tests/subscribers/test_consumers.py"),
    Line("docs/webhooks.md", "yaml", "tests/delivery/test_page.py"),
    Line("docs/webhooks.md", "python", "tests/delivery/test_page.py"),
    Line("docs/webhooks.md", "js", "tests/delivery/test_page.py"),
]
A_PICTURE = "a picture in letters"
NOT_RUN = [
    Line("README.md", "", A_PICTURE, "crm.updates"),
    Line("docs/concepts.md", "", A_PICTURE),
    Line("docs/metrics.md", "indented", A_PICTURE, "raw message"),
    Line("docs/operations.md", "nginx", "wants nginx and a certificate"),
    Line("docs/rule-language.md", "indented", "a comment for editors", "# yaml-language-server"),
]


def lines_about(block: Block) -> list[Line]:
    return [line for line in (*TESTED, *NOT_RUN) if line.is_about(block)]


BLOCKS = list(blocks())
TO_RUN = [block for block in BLOCKS if block.commands and not lines_about(block)]
TRANSCRIPTS = [block for block in TO_RUN if block.text.startswith(PROMPT)]
