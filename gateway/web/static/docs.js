// Shows /openapi.json, and sends what is tried with the key that was given; the key stays in this page's memory.
"use strict";
const form = document.getElementById("key");
const said = document.getElementById("said");
const dark = matchMedia("(prefers-color-scheme: dark)");
let authorization = null;

function paint() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

// What Swagger UI makes has fields without a name, and long answers that a keyboard cannot scroll.
function complete() {
  for (const field of document.querySelectorAll("textarea:not([aria-label])")) field.setAttribute("aria-label", "Arguments, as JSON");
  for (const text of document.querySelectorAll("pre.microlight:not([tabindex])")) text.tabIndex = 0;
}

function show(described) {
  SwaggerUIBundle({
    spec: described,
    dom_id: "#ui",
    layout: "BaseLayout",
    presets: [SwaggerUIBundle.presets.apis],
    docExpansion: "list",
    defaultModelsExpandDepth: -1,
    tryItOutEnabled: true,
    requestInterceptor: (request) => {
      if (authorization) request.headers.Authorization = authorization;
      return request;
    },
  });
}

async function load() {
  try {
    const answer = await fetch("/openapi.json", { headers: authorization ? { Authorization: authorization } : {} });
    const body = await answer.json();
    form.hidden = answer.status !== 401 && !authorization;
    said.textContent = answer.ok ? "" : body.title;
    if (answer.ok) show(body);
  } catch {
    said.textContent = "The gateway does not answer.";
    form.hidden = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  authorization = `Bearer ${document.getElementById("given").value}`;
  load();
});
dark.addEventListener("change", paint);
new MutationObserver(complete).observe(document.getElementById("ui"), { childList: true, subtree: true });
paint();
load();
