"use strict";

// --- Theme: the system's, unless the reader chooses -------------------------------------------------------------
const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");

function remembered() {
  try {
    return localStorage.getItem("flowbench-theme");
  } catch {
    return null; // Browsers may refuse storage to files.
  }
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  themeButton.textContent = `Theme: ${theme}`;
  themeButton.setAttribute("aria-label", `Theme: ${theme === "system" ? "as the system" : theme}. Change it.`);
}

let theme = themes.includes(remembered()) ? remembered() : "system";
setTheme(theme);
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  setTheme(theme);
  try {
    localStorage.setItem("flowbench-theme", theme);
  } catch {
    // Then it lasts as long as the page is open.
  }
});

// --- Videos: unpacked when they come into view, shown at their last frame, where failures can be seen ------------
function unpack(video) {
  const text = document.getElementById(video.dataset.clip).textContent;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const button = video.nextElementSibling;
  video.addEventListener("loadedmetadata", () => { video.currentTime = Math.max(0, video.duration - 0.05); }, { once: true });
  video.addEventListener("error", () => { button.hidden = true; video.controls = true; }, { once: true });
  // A browser's own controls cover half of a small frame, so they come with the first play.
  button.hidden = false;
  button.addEventListener("click", () => {
    button.hidden = true;
    video.controls = true;
    video.currentTime = 0;
    video.play().catch(() => {}); // Its own controls say what is wrong.
    video.focus();
  });
  video.preload = "auto";
  video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
}

// The packed videos stand behind this script.
document.addEventListener("DOMContentLoaded", () => {
  const videos = document.querySelectorAll("video[data-clip]");
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      unpack(entry.target);
    }
  }, { rootMargin: "200px" });
  videos.forEach((video) => watcher.observe(video));
});

// --- The gallery, a few clips at a time ---------------------------------------------------------------------------
const filters = document.getElementById("filters");
if (filters) {
  const batch = 12;
  const clips = [...document.querySelectorAll("#gallery .clip")];
  const more = document.getElementById("more");
  let most = batch;

  const update = () => {
    const selects = [...filters.querySelectorAll("select")];
    const wanted = clips.filter((clip) => selects.every((one) => !one.value || clip.dataset[one.name] === one.value));
    const shown = new Set(wanted.slice(0, most));
    for (const clip of clips) clip.hidden = !shown.has(clip);
    filters.querySelector("output").textContent = `${shown.size} of ${wanted.length} shown`;
    more.hidden = shown.size === wanted.length;
    more.textContent = `Show ${Math.min(batch, wanted.length - shown.size)} more`;
  };

  document.getElementById("no-script").remove();
  filters.hidden = false;
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("change", () => { most = batch; update(); });
  more.addEventListener("click", () => { most += batch; update(); });
  update();
}

// --- Copying a command -------------------------------------------------------------------------------------------
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const before = button.innerHTML;
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => { button.innerHTML = before; }, 1500);
  });
}
