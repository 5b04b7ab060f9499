// Filters, and the details of trials on demand. Whatever it puts into the page was escaped when the
// page was made; text of records is never a key, a selector or code.
'use strict';
(() => {
  document.documentElement.classList.add('scripts');

  const packs = [...document.querySelectorAll('script.pack')];
  const form = document.querySelector('.filters');
  const count = document.getElementById('count');
  const none = document.getElementById('none');
  const names = [...form.querySelectorAll('select')].map((select) => select.name);
  const groups = [...document.querySelectorAll('.list tbody')].map((body) => {
    const [head, ...rows] = body.rows;
    return {
      body,
      rows: rows.map((row) => {
        const link = row.querySelector('a');
        const anchor = link.getAttribute('href').slice(1);
        return {
          row, link, anchor,
          facets: row.dataset.f.split(' ').map((values) => values.split(',')),
          text: `${head.textContent} ${anchor} ${row.textContent}`.toLowerCase(),
          detail: null,
        };
      }),
    };
  });
  const trials = new Map(groups.flatMap((group) => group.rows).map((trial) => [trial.anchor, trial]));
  const grouped = (number) => number.toLocaleString('en');

  // Filters.

  function filter() {
    const wanted = names.map((name) => form.elements[name].value);
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { body, rows } of groups) {
      let any = false;
      for (const { row, facets, text, detail } of rows) {
        const fits = wanted.every((value, at) => value === '' || facets[at].includes(value)) &&
          words.every((word) => text.includes(word));
        row.hidden = !fits;
        if (detail) detail.hidden = !fits;
        any ||= fits;
        shown += fits;
      }
      body.hidden = !any;
    }
    const total = trials.size;
    count.textContent = shown === total ? `${grouped(total)} trials`
      : `${grouped(shown)} of ${grouped(total)} trials shown`;
    none.hidden = shown > 0 || total === 0;
  }
  let due = 0;
  form.addEventListener('input', () => {
    cancelAnimationFrame(due);
    due = requestAnimationFrame(filter);
  });
  form.addEventListener('reset', () => requestAnimationFrame(filter));
  form.addEventListener('submit', (event) => event.preventDefault());
  document.getElementById('reset').addEventListener('click', () => form.reset());
  for (const link of document.querySelectorAll('.counts a')) {
    link.addEventListener('click', () => {
      form.reset();
      const options = [...form.elements.verdict.options];
      const option = options.find((one) => one.text.startsWith(`${link.dataset.verdict} (`));
      form.elements.verdict.value = option ? option.value : '';
      requestAnimationFrame(filter);
    });
  }

  // Packs: see pack.rs for their shape.

  const unpacked = new Map();
  function unpack(at) {
    if (!unpacked.has(at)) unpacked.set(at, inflate(packs[at].textContent));
    return unpacked.get(at);
  }
  async function inflate(text) {
    const packed = Uint8Array.from(atob(text), (digit) => digit.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const length = new DataView(bytes.buffer).getUint32(0, true);
    const entries = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    let at = 4 + length;
    return entries.map(({ html, pcapng }) => {
      at += pcapng;
      return { html, capture: bytes.subarray(at - pcapng, at) };
    });
  }
  async function entry({ row }) {
    return (await unpack(Number(row.dataset.p)))[Number(row.dataset.a)];
  }

  // Details.

  async function open(trial) {
    if (trial.detail) return;
    trial.detail = document.createElement('tr');
    trial.detail.className = 'detail';
    const cell = trial.detail.insertCell();
    cell.colSpan = 5;
    cell.textContent = 'Unpacking …';
    trial.row.after(trial.detail);
    trial.link.setAttribute('aria-expanded', 'true');
    try {
      const { html } = await entry(trial);
      const template = document.createElement('template');
      template.innerHTML = html;
      cell.replaceChildren(template.content);
    } catch (error) {
      cell.textContent = `This trial cannot be unpacked (${error}). A newer browser may do; ` +
        'so does airtight explain.';
    }
  }
  function close(trial) {
    trial.detail?.remove();
    trial.detail = null;
    trial.link.setAttribute('aria-expanded', 'false');
  }
  for (const trial of trials.values()) {
    if (!('told' in trial.row.dataset)) trial.link.setAttribute('aria-expanded', 'false');
  }

  // A trial's address opens it, also from elsewhere in the page and by the browser's way back.
  async function follow() {
    let anchor = location.hash.slice(1);
    try { anchor = decodeURIComponent(anchor); } catch { /* It stays as it is. */ }
    const trial = trials.get(anchor);
    if (!trial || 'told' in trial.row.dataset) return;
    await open(trial);
    if (trial.row.hidden) { form.reset(); filter(); }
    trial.row.scrollIntoView({ block: 'start' });
    trial.link.focus({ preventScroll: true });
  }
  addEventListener('hashchange', follow);

  document.addEventListener('click', async (event) => {
    const link = event.target.closest?.('.list .row a');
    if (link) {
      const trial = trials.get(link.getAttribute('href').slice(1));
      if ('told' in trial.row.dataset || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      if (trial.detail) close(trial);
      else {
        history.replaceState(null, '', `#${trial.anchor}`);
        await open(trial);
      }
      return;
    }
    const button = event.target.closest?.('button.download');
    if (button) {
      const { capture } = await entry(trials.get(button.dataset.trial));
      const address = URL.createObjectURL(new Blob([capture], { type: 'application/x-pcapng' }));
      const save = document.createElement('a');
      save.href = address;
      save.download = button.dataset.name;
      save.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    }
  });

  // Paper has no summaries to open. The bytes of sentinels are ours, and not worth it.
  let closed = [];
  addEventListener('beforeprint', () => {
    closed = [...document.querySelectorAll('.trial tr:not(.sentinel) details:not([open])')];
    for (const one of closed) one.open = true;
  });
  addEventListener('afterprint', () => { for (const one of closed) one.open = false; });

  filter();
  follow();
})();
