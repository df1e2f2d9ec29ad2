// A link with a key behind the `#` signs in by itself; what is behind a `#` is never sent in an address.
const key = new URLSearchParams(location.hash.slice(1)).get("key");
if (key) {
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.getElementById("sign-in");
  form.elements.token.value = key;
  form.submit();
}
