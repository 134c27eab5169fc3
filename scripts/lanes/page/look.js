// Evaluated in a page: what is wrong with it as it is shown, and a line of what there is.
(scheme, width) => {
  const wrong = [];
  const say = (what) => { if (wrong.length < 40) wrong.push(what); };
  const colour = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return { parts: [red, green, blue], alpha };
  };
  const luminance = ({ parts }) => {
    const [red, green, blue] = parts.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const background = colour(getComputedStyle(at).backgroundColor);
      if (background.alpha > 0) return background;
    }
    return { parts: [255, 255, 255], alpha: 1 };
  };
  const words = (element) => element.textContent.trim().slice(0, 40);

  // The page as a whole.
  const root = document.documentElement;
  // Not innerWidth, which a phone's browser widens until everything fits.
  if (root.scrollWidth > width) {
    say(`it is ${root.scrollWidth} px wide in a window of ${width}`);
    for (const element of document.body.querySelectorAll("body > *, main *:not(.wide *, pre *)")) {
      if (element.getBoundingClientRect().right > width + 1) say(`too wide: ${element.tagName} ${words(element)}`);
    }
  }
  const paper = luminance(behind(document.body));
  if (scheme === "dark" ? paper > 0.1 : paper < 0.8) say(`in the ${scheme}, its background has luminance ${paper}`);
  if (document.querySelector("script, link[rel=stylesheet], img, iframe")) say("it has a part from elsewhere");

  // Text.
  let texts = 0;
  for (const element of document.body.querySelectorAll("h1, h2, h3, p, a, li, th, td, code, strong, figcaption")) {
    if (!words(element)) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const found = contrast(colour(style.color), behind(element));
    if (found < 4.5) say(`contrast ${found.toFixed(1)} of "${words(element)}"`);
    if (parseFloat(style.fontSize) < 12) say(`letters of ${style.fontSize} in "${words(element)}"`);
  }
  for (const table of document.querySelectorAll("table")) {
    if (!table.closest(".wide")) say(`no box to scroll in: "${words(table)}"`);
  }
  for (const heading of document.querySelectorAll("h2")) {
    if (!heading.nextElementSibling) say(`nothing below "${words(heading)}"`);
  }

  // Charts.
  const charts = [...document.querySelectorAll("figure")];
  let smallest = Infinity;
  for (const figure of charts) {
    const chart = figure.querySelector("svg");
    if (!chart) { say(`no chart in "${words(figure)}"`); continue; }
    const name = chart.querySelector("title")?.textContent ?? "";
    const named = chart.getAttribute("aria-labelledby")?.split(" ").map((id) => document.getElementById(id));
    if (chart.getAttribute("role") !== "img" || !name || !named?.every((at) => at?.textContent)) {
      say(`a chart without a name: "${words(figure)}"`);
    }
    const box = chart.getBoundingClientRect();
    if (box.width < 250 || box.height < 60 || getComputedStyle(chart).visibility !== "visible") {
      say(`"${name}" is ${box.width} by ${box.height} px`);
    }
    const ground = behind(chart);
    const labels = [...chart.querySelectorAll("text")];
    if (!labels.length) say(`"${name}" has no text`);
    const boxes = labels.map((label) => {
      const style = getComputedStyle(label);
      const size = parseFloat(style.fontSize) * label.getScreenCTM().a;
      smallest = Math.min(smallest, size);
      if (size < 9) say(`letters of ${size.toFixed(1)} px in "${name}": ${words(label)}`);
      const found = contrast(colour(style.fill), ground);
      if (found < 4.5) say(`contrast ${found.toFixed(1)} in "${name}": ${words(label)}`);
      const at = label.getBoundingClientRect();
      if (at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1) {
        say(`cut off in "${name}": ${words(label)}`);
      }
      return at;
    });
    boxes.forEach((one, index) => boxes.slice(index + 1).forEach((other, more) => {
      const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (across > 1 && down > 4) say(`in "${name}", "${words(labels[index])}" is over "${words(labels[index + more + 1])}"`);
    }));
    for (const shape of chart.querySelectorAll("rect, circle")) {
      const found = contrast(colour(getComputedStyle(shape).fill), ground);
      if (found < 3) say(`contrast ${found.toFixed(1)} of ${getComputedStyle(shape).fill} in "${name}"`);
    }
  }
  if (!charts.length) say("there is no chart");
  const tables = document.querySelectorAll("table").length;
  return { wrong, seen: `${texts} texts, ${tables} tables, ${charts.length} charts with letters of ${smallest.toFixed(1)} px` };
}
