// Light or dark, before the first paint: what the reader chose last, else what the system says. A classic script in the head,
// because modules run only after the page was drawn once.

const theme = document.documentElement.dataset;
try {
  theme.theme = localStorage.getItem("bipo-theme") ?? "";
} catch {
  // A browser that keeps nothing follows the system.
}

addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", () => {
    const isDark = (theme.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    theme.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("bipo-theme", theme.theme);
    } catch {
      // It still switches.
    }
  });
});
