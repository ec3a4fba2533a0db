// What both pages need: elements, and answers of the server.

/** A new element: tag, properties, children (elements or text). */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** The JSON at an address; throws an Error with the server's own words where there is none. */
export async function fetchJson(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error('The viewer does not answer. Was it ended? Start it again with "wsi-cam view".');
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error ?? `The viewer answers ${response.status}.`);
  return content;
}

/** A number with a fixed count of decimals; a dash where there is none. */
export const fixed = (value, decimals) => (value == null ? "–" : value.toFixed(decimals));
