// Signs what a page shows with one of the person's passkeys: the form names the challenge and the passkeys in
// hex, the answer goes into its field `signature`. Without this script nothing is sent.
const button = document.querySelector("button[data-sign]");
const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));

async function sign(form) {
  const credentials = form.dataset.credentials.split(" ");
  const { rawId, response } = await navigator.credentials.get({
    publicKey: {
      challenge: bytes(form.dataset.challenge),
      allowCredentials: credentials.map((id) => ({ type: "public-key", id: bytes(id) })),
      userVerification: "required",
    },
  });
  return JSON.stringify({
    credential: hex(rawId),
    authenticator_data_b64: base64(response.authenticatorData),
    client_data_b64: base64(response.clientDataJSON),
    signature_b64: base64(response.signature),
  });
}

function explain(name) {
  const problem = document.getElementById("not-signed");
  const texts = [...problem.querySelectorAll("[data-why]")];
  const told = texts.find((text) => text.dataset.why === name) ?? texts.at(-1);
  texts.forEach((text) => { text.hidden = text !== told; });
  problem.hidden = false;
  problem.focus();
}

button?.addEventListener("click", async (event) => {
  event.preventDefault();
  const form = button.form;
  button.disabled = true; // a double click signs once
  try {
    form.elements.signature.value = await sign(form);
    form.submit();
  } catch (error) {
    button.disabled = false;
    explain(error.name);
  }
});
// Back from the next page: the button works again.
addEventListener("pageshow", () => { if (button) button.disabled = false; });
