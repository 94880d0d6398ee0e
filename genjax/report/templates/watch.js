"use strict";
// Fetch the page again every few seconds; where it has changed, replace the content and keep what
// is open, what is ticked, and the place that is being read.
const SECONDS = 3;
let tag = null;

const keyOf = (element) => element.tagName + element.textContent.slice(0, 80);

function anchor() {
  for (const one of document.querySelectorAll("h2, h3, figcaption, caption, li, p")) {
    const top = one.getBoundingClientRect().top;
    if (top >= 0 && one.checkVisibility()) return { key: keyOf(one), tag: one.tagName, top };
  }
  return null;
}

function replace(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const content = document.getElementById("content");
  const next = fresh.getElementById("content");
  if (!next || next.innerHTML === content.innerHTML) return;
  const held = anchor(), scroll = window.scrollY;
  const closed = new Map();
  for (const one of content.querySelectorAll("details")) {
    closed.set(keyOf(one.querySelector("summary")), one.open);
  }
  for (const one of next.querySelectorAll("details")) {
    const open = closed.get(keyOf(one.querySelector("summary")));
    if (open !== undefined) one.open = open;
  }
  const ticked = new Set();
  for (const one of content.querySelectorAll("input:checked")) ticked.add(one.value);
  for (const one of next.querySelectorAll("input")) one.checked = ticked.has(one.value);
  const focused = content.contains(document.activeElement) ? document.activeElement : null;
  const key = focused ? focused.getAttribute("value") || focused.textContent.slice(0, 80) : null;
  const name = focused ? focused.tagName : null;
  content.innerHTML = next.innerHTML;
  // innerHTML loses the state of what is ticked.
  for (const one of content.querySelectorAll("input")) one.checked = ticked.has(one.value);
  if (focused) {
    for (const one of content.querySelectorAll(name)) {
      if ((one.getAttribute("value") || one.textContent.slice(0, 80)) === key) {
        one.focus({ preventScroll: true });
        break;
      }
    }
  }
  window.scrollTo({ top: scroll, behavior: "instant" });
  if (held && scroll > 0) {
    for (const one of content.querySelectorAll(held.tag)) {
      if (keyOf(one) === held.key) {
        window.scrollBy({ top: one.getBoundingClientRect().top - held.top, behavior: "instant" });
        break;
      }
    }
  }
  document.title = fresh.title;
}

function say(text) {
  const place = document.getElementById("fresh");
  if (place.textContent !== text) place.textContent = text;
}

async function refresh() {
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.ok) {
      tag = answer.headers.get("ETag");
      replace(await answer.text());
    }
    say(answer.ok || answer.status === 304 ? "live" : "this run is not there any more");
  } catch {
    say("genjax watch has ended: this is the last it showed");
  }
  setTimeout(refresh, 1000 * SECONDS);
}

setTimeout(refresh, 1000 * SECONDS);
