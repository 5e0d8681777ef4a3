// Plays a film strip: the frames of a video on its screen, one after another at their own times.
// In a function, as pages have other scripts beside it; text reaches the page through textContent alone.

const playable = (() => {
  const SHORTEST = 40, LONGEST = 600; // ms that a frame stays
  const SMALL_FRAME = 160; // px under which a frame is shown pixel by pixel

  return (film) => {
    const screen = film.querySelector(".screen"), reel = film.querySelector(".reel"), cells = [...reel.children];
    const button = film.querySelector("button"), slider = film.querySelector("input"), time = film.querySelector(".time");
    const seconds = cells.map((cell) => Number(cell.dataset.seconds));
    const clock = (at) => `${seconds[at].toFixed(2)} s, ${at + 1}/${cells.length}`;
    let at = 0, timer = null;

    const show = (wanted) => {
      cells[at].removeAttribute("aria-current");
      at = Math.max(0, Math.min(cells.length - 1, wanted));
      const cell = cells[at], picture = cell.querySelector("img");
      cell.setAttribute("aria-current", "true");
      screen.src = picture.src;
      screen.alt = `${film.getAttribute("aria-label")}, frame at ${seconds[at].toFixed(2)} s`;
      slider.value = at;
      slider.setAttribute("aria-valuetext", clock(at));
      time.textContent = clock(at);
      reel.scrollLeft = cell.offsetLeft - (reel.clientWidth - cell.clientWidth) / 2;
    };
    const pause = () => {
      clearTimeout(timer);
      timer = null;
      film.classList.remove("playing");
      button.setAttribute("aria-label", "play " + film.getAttribute("aria-label"));
    };
    const wait = () => Math.max(SHORTEST, Math.min(LONGEST, 1000 * (seconds[at + 1] - seconds[at]) || LONGEST));
    const step = () => {
      if (!film.isConnected) return pause(); // another page of groups is shown
      show((at + 1) % cells.length);
      timer = setTimeout(step, wait());
    };
    const toggle = () => {
      if (timer !== null) return pause();
      film.classList.add("playing");
      button.setAttribute("aria-label", "pause " + film.getAttribute("aria-label"));
      timer = setTimeout(step, wait());
    };
    const move = (wanted) => {
      pause();
      show(wanted);
    };

    screen.addEventListener("load", () => screen.classList.toggle("small", screen.naturalWidth < SMALL_FRAME));
    button.addEventListener("click", toggle);
    slider.addEventListener("input", () => move(Number(slider.value)));
    cells.forEach((cell, number) => cell.addEventListener("click", () => move(number)));
    film.addEventListener("keydown", (event) => {
      if (event.key !== " " || event.target === button) return;
      event.preventDefault();
      toggle();
    });
    show(0);
    pause();
    return film;
  };
})();
document.querySelectorAll(".film").forEach(playable);
