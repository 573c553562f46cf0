// Makes src/server/admin/page/land.svg, the land of the page's map:
//
//     npm install --prefix target/map --ignore-scripts world-atlas@2.0.2
//     node contrib/map/land.mjs target/map/node_modules/world-atlas/land-110m.json > src/server/admin/page/land.svg
//
// The input is TopoJSON: arcs of whole numbers, each point as the difference from the one before, and polygons made
// of arcs. The output is one path: longitude to the right, latitude downwards, in tenths of a degree, with relative
// coordinates.
import { readFileSync } from 'node:fs';

const topology = JSON.parse(readFileSync(process.argv[2]));
const { scale, translate } = topology.transform;

// The points of each arc, in tenths of a degree.
const arcs = topology.arcs.map(arc => {
  let [x, y] = [0, 0];
  return arc.map(([dx, dy]) => {
    [x, y] = [x + dx, y + dy];
    const longitude = x * scale[0] + translate[0];
    const latitude = y * scale[1] + translate[1];
    return [Math.round(longitude * 10), Math.round(-latitude * 10)];
  });
});

// A negative number is an arc that is walked backwards. Arcs share their ends.
const points = ring => ring.flatMap((number, place) => {
  const arc = number < 0 ? arcs[~number].toReversed() : arcs[number];
  return place === 0 ? arc : arc.slice(1);
});

// Two numbers need a blank between them only where the second one has no sign.
const joined = numbers => numbers.reduce((text, number) =>
  text + (text === '' || number < 0 ? '' : ' ') + number, '');

// A ring that crosses 180 degrees goes on behind the edge of the map, and its copy comes in at the other edge. One that
// goes around the earth is closed at the south pole.
const outlines = ring => {
  let offset = 0;
  const unrolled = points(ring).map(([x, y], place, all) => {
    const before = all[place - 1]?.[0] ?? x;
    if (Math.abs(x - before) > 1800) offset += x < before ? 3600 : -3600;
    return [x + offset, y];
  });
  if (offset !== 0) unrolled.push([unrolled.at(-1)[0], 900], [unrolled[0][0], 900]);
  const crosses = unrolled.some(([x]) => Math.abs(x) > 1800) && offset === 0;
  const side = Math.sign(unrolled.find(([x]) => Math.abs(x) > 1800)?.[0] ?? 0);
  return crosses ? outline(unrolled) + outline(unrolled.map(([x, y]) => [x - side * 3600, y])) : outline(unrolled);
};

const outline = ring => {
  const steps = [];
  const [first, ...rest] = ring;
  let [x, y] = first;
  for (const [toX, toY] of [...rest, first]) {
    if (toX !== x || toY !== y) steps.push(toX - x, toY - y);
    [x, y] = [toX, toY];
  }
  // Less than a triangle is left of an island that is smaller than a tenth of a degree.
  return steps.length < 6 ? '' : `M${joined(first)}l${joined(steps.slice(0, -2))}z`;
};

const polygons = topology.objects.land.geometries.flatMap(geometry => geometry.arcs);
const path = polygons.flatMap(polygon => polygon.map(outlines)).join('');
process.stdout.write('<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1800 -900 3600 1800">'
  + `<path id="land" d="${path}"/></svg>\n`);
