// Shows /openapi.json, and sends what is tried with the key that was given; the key stays in this page's memory.
"use strict";
const form = document.getElementById("key");
const said = document.getElementById("said");
let authorization = null;

function show(described) {
  SwaggerUIBundle({
    spec: described,
    dom_id: "#ui",
    layout: "BaseLayout",
    presets: [SwaggerUIBundle.presets.apis],
    deepLinking: true,
    docExpansion: "list",
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
load();
