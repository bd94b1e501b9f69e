// A line over the pictures follows the sound. A click on a picture moves the sound there, one on an event plays it.
(() => {
  const playing = () => document.querySelector("#player audio");
  const follow = () => {
    const sound = playing();
    const at = sound ? `${Math.min(100, (100 * sound.currentTime) / sound.dataset.seconds)}%` : "0";
    for (const line of document.querySelectorAll(".cursor")) line.style.left = at;
    requestAnimationFrame(follow);
  };
  document.addEventListener("click", ({ target, clientX }) => {
    const sound = playing(), event = target.closest("[data-at]"), plot = target.closest(".plot");
    if (!sound || !(event || plot)) return;
    const box = plot?.getBoundingClientRect();
    sound.currentTime = event ? event.dataset.at : (sound.dataset.seconds * (clientX - box.left)) / box.width;
    if (event) sound.play();
  });
  requestAnimationFrame(follow);
})();
