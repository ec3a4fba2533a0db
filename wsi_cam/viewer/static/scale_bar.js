// A bar of a round length in um or mm, of at most this many CSS pixels.
const LONGEST_PX = 160;

/** Keeps the bar at the slide's present enlargement; `host` holds a span for the words and a div for the bar. */
export function keepScaleBar(stage, host) {
  const [words, bar] = host.children;
  const draw = () => {
    const { width, mpp_um: [mppX] } = stage.facts;
    const pxPerUm = (stage.toWindow(width, 0).x - stage.toWindow(0, 0).x) / width / mppX;
    const um = roundLength(LONGEST_PX / pxPerUm);
    words.textContent = um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
    bar.style.width = `${um * pxPerUm}px`;
    host.hidden = false;
  };
  for (const event of ["update-viewport", "animation"]) stage.viewer.addHandler(event, draw);
}

/** The greatest of 1, 2, 5, 10, 20, 50 ... that is at most `limit`. */
export function roundLength(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  const digit = [5, 2, 1].find((candidate) => candidate * power <= limit * (1 + 1e-9));
  return Number((digit * power).toPrecision(1));
}
