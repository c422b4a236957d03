// Makes and changes elements. What has not changed is not touched, so that focus, selection and a reader's place stay.

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function draw(tag, attributes = {}) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Has `parent` contain one child for each key, in this order; `create` makes one, `update` fills it.
export function fill(parent, keys, create, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  keys.forEach((key, place) => {
    let child = there.get(key);
    if (child === undefined) {
      child = create(key);
      child.dataset.key = key;
    }
    there.delete(key);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
    update(child, key);
  });
  for (const child of there.values()) child.remove();
}

// The descendants of an element by what `data-part` calls them.
export function parts(node) {
  return Object.fromEntries([...node.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
}
