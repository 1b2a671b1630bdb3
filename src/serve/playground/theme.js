// Light or dark, before the first paint: what the reader chose last, else what the system says. A classic script in the head,
// because modules run only after the page was drawn once.

const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const remembered = () => {
  try {
    return localStorage.getItem("bipo-theme");
  } catch {
    return null;
  }
};
const theme = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");

if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();

addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const label = () => {
    const other = theme() === "dark" ? "light" : "dark";
    button.setAttribute("aria-label", `Switch to ${other} colours`);
    button.title = `Switch to ${other} colours`;
  };
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("bipo-theme", root.dataset.theme);
    } catch {
      /* A browser that keeps nothing still switches. */
    }
    label();
  });
  dark.addEventListener("change", label);
  label();
});
