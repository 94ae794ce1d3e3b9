"use strict";
// Pictures and clips, for every page.

// A picture or clip. Small ones are enlarged pixel by pixel, not blurred.
function media(address, label) {
  if (address.startsWith("data:video") || address.endsWith(".mp4")) {
    const clip = h("video", {src: address, "aria-label": label, muted: true, playsinline: true, preload: "auto"});
    clip.muted = true;
    clip.addEventListener("loadedmetadata", () => clip.classList.toggle("coarse", clip.videoWidth <= 160));
    return clip;
  }
  const picture = h("img", {src: address, alt: label, decoding: "async"});
  picture.addEventListener("load", () => picture.classList.toggle("coarse", picture.naturalWidth <= 160));
  return picture;
}

// All clips within play in step: they start once all can play, and again once all have ended.
function inStep(container) {
  const clips = [...container.querySelectorAll("video")];
  if (!clips.length) return container;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const start = () => clips.forEach(clip => { clip.currentTime = 0; clip.play().catch(() => {}); });
  let ready = 0;
  for (const clip of clips) {
    clip.addEventListener("canplay", () => { if (++ready === clips.length && !still) start(); }, {once: true});
    clip.addEventListener("ended", () => { if (clips.every(other => other.ended)) start(); });
    if (still) clip.controls = true;
  }
  return container;
}
