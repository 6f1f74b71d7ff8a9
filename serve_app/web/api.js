// The HTTP API as the page uses it. Errors are problem details (RFC 9457); what they say is shown.

const keyInput = document.getElementById("key");
keyInput.value = sessionStorage.getItem("key") ?? "";
keyInput.addEventListener("change", () => sessionStorage.setItem("key", keyInput.value));

export class Problem extends Error {
  constructor(status, body) {
    super([body.detail ?? body.title ?? `HTTP ${status}`, body.hint].filter(Boolean).join(". "));
    this.status = status;
  }
}

export async function call(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (keyInput.value) headers.authorization = `Bearer ${keyInput.value}`;
  const asked = body === undefined ? { headers, signal } : { method: "POST", headers, body: JSON.stringify(body), signal };
  const reply = await fetch(path, asked);
  const told = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Problem(reply.status, told);
  return told;
}

// The newest of several questions: an older one's answer, if it comes late, is dropped; `stop` drops the newest, too.
export function newest() {
  let running;
  const ask = (path, body) => {
    running?.abort();
    running = new AbortController();
    return call(path, body, running.signal);
  };
  ask.stop = () => running?.abort();
  return ask;
}

const problem = document.getElementById("problem");

// Runs what an event asks for, and shows what went wrong with it.
export async function shown(work) {
  try {
    problem.hidden = true;
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    problem.textContent = error.message;
    problem.hidden = false;
    return undefined;
  }
}
