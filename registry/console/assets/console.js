// What works without this file works; with it some things are known sooner.
"use strict";

// What is going on right now comes as parts of the page, made by the server, each named by the id of
// its place. Where the page offers to load it again instead, it need not any more.
const sources = new Map();
for (const place of document.querySelectorAll("[data-live]")) {
	const address = place.dataset.live;
	if (!sources.has(address)) sources.set(address, new EventSource(address));
	const source = sources.get(address);
	source.addEventListener(place.id, (event) => {
		fill(place, event.data);
		live(true);
	});
	place.addEventListener("focusout", (event) => {
		if (place.waiting && !place.contains(event.relatedTarget)) fill(place, place.waiting, true);
	});
}
for (const source of sources.values()) {
	source.addEventListener("error", () => live(false));
	source.addEventListener("end", () => {
		source.close();
		document.querySelector("[data-live-mark]")?.setAttribute("hidden", "");
	});
	addEventListener("pagehide", () => source.close());
}

function live(is) {
	document.querySelector("[data-live-mark]")?.toggleAttribute("hidden", !is);
	document.querySelector("[data-live-instead]")?.toggleAttribute("hidden", is);
}

// Only what has changed is touched, so that nobody who reads or points at the rest is thrown out of
// it; and nothing under somebody's focus or finger moves before that has gone elsewhere.
function fill(place, html, left) {
	const made = document.createElement("template");
	made.innerHTML = html;
	const keyed = (root) => [...root.querySelectorAll("[data-key]")];
	const now = keyed(place);
	const next = keyed(made.content);
	const held = (element) => !left && element.matches(":focus-within, :active");
	place.waiting = held(place) ? html : "";
	if (now.length > 0 && now.length === next.length && now.every((element, i) => element.dataset.key === next[i].dataset.key)) {
		now.forEach((element, i) => {
			if (element.innerHTML !== next[i].innerHTML && !held(element)) element.innerHTML = next[i].innerHTML;
		});
	} else if (!held(place) && place.innerHTML !== made.innerHTML) {
		place.innerHTML = html;
	}
}

// Copying takes a script, and so its buttons are shown by one.
if (navigator.clipboard) {
	for (const button of document.querySelectorAll("button.copy")) {
		button.hidden = false;
		const label = button.getAttribute("aria-label");
		button.addEventListener("click", async () => {
			await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
			button.classList.add("done");
			button.setAttribute("aria-label", button.dataset.done);
			setTimeout(() => {
				button.classList.remove("done");
				button.setAttribute("aria-label", label);
			}, 2000);
		});
	}
}

// A test shows its result in place, and the form keeps what was typed, the password too.
for (const button of document.querySelectorAll("button[data-part]")) {
	button.addEventListener("click", async (event) => {
		event.preventDefault();
		if (button.getAttribute("aria-busy") === "true") return;
		const form = button.form;
		const result = form.querySelector("[data-result]");
		const text = button.textContent;
		button.setAttribute("aria-busy", "true");
		button.textContent = button.dataset.busy;
		try {
			const answer = await fetch(button.formAction, {
				method: "POST",
				headers: { "X-Part": "1" },
				body: new URLSearchParams(new FormData(form)),
			});
			if (answer.redirected || !answer.ok) {
				form.action = button.formAction; // the page that it is without script says why
				form.submit();
				return;
			}
			result.innerHTML = await answer.text();
		} catch {
			form.action = button.formAction;
			form.submit();
		} finally {
			button.removeAttribute("aria-busy");
			button.textContent = text;
		}
	});
}

// Kinds of registries that are in one place only have their address filled in.
for (const select of document.querySelectorAll("select[data-fills]")) {
	const field = select.form.elements[select.dataset.fills];
	const known = () => [...select.options].some((option) => option.dataset.url === field.value);
	const fill = () => {
		if (field.value === "" || known()) field.value = select.selectedOptions[0].dataset.url;
	};
	select.addEventListener("change", fill);
	if (field.value === "") fill();
}
