"""What a reader of a page cannot see: parts beyond the window, cut texts, placeholders longer than their fields."""

from typing import Any

UNSEEN = """allowed => {
  const unseen = [], width = document.documentElement.clientWidth;
  const named = (node) => node.tagName.toLowerCase() + (node.id ? "#" + node.id : "") + "." + node.classList[0];
  if (document.documentElement.scrollWidth > width) unseen.push("the page is wider than the window");
  for (const node of document.querySelectorAll("body *")) {
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    if (style.visibility === "hidden" || box.width < 2 || node.closest(".sr-only, .hide, " + allowed)) continue;
    if (box.right > width + 1) unseen.push(named(node) + " ends at " + Math.round(box.right));
    if (style.overflowX !== "visible" && node.scrollWidth > node.clientWidth + 1) unseen.push(named(node) + " is cut");
    if (!node.placeholder) continue;
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = style.font;
    const room = node.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (pen.measureText(node.placeholder).width > room) unseen.push(named(node) + " has a cut placeholder");
  }
  return unseen;
}"""


def settle(page: Any, milliseconds: int = 150) -> None:
    """Let all timers of the page run that are due by then: those that wait for the end of typing, or of a resize."""
    page.evaluate("(time) => new Promise((done) => setTimeout(done, time))", milliseconds)


def unseen(page: Any, allowed: str = ".nothing") -> list[str]:
    """What is cut or outside of the window, with all details open; but for parts of `allowed`, a CSS selector."""
    page.evaluate("() => document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    settle(page, 200)
    return page.evaluate(UNSEEN, allowed)
