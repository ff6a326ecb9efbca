// What works without this file works; with it some things are known sooner.
"use strict";

// What is going on right now comes as parts of the page, made by the server.
for (const place of document.querySelectorAll("[data-live]")) {
	const source = new EventSource(place.dataset.live);
	const mark = document.querySelector("[data-live-mark]");
	source.addEventListener("live", (event) => {
		if (place.contains(document.activeElement)) return; // nothing moves under somebody's focus
		place.innerHTML = event.data;
		mark?.removeAttribute("hidden");
	});
	source.addEventListener("error", () => mark?.setAttribute("hidden", ""));
	addEventListener("pagehide", () => source.close());
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
