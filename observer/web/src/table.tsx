// A table that can be sorted by its heads.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

export interface Column<Row> {
  name: string;
  /** What it is, in a sentence. */
  title?: string;
  cell: (row: Row) => ComponentChildren;
  /** By what it is sorted, the largest first; a column without is not. */
  by?: (row: Row) => number | undefined;
  /** Left out where there is little room. */
  wide?: boolean;
  text?: boolean;
}

interface Properties<Row> {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  /** The name of the column by which it is sorted at first; as the rows are, without. */
  sort?: string;
  most: number;
  keyOf: (row: Row) => string;
  empty: string;
}

export function Table<Row>({ caption, columns, rows, sort, most, keyOf, empty }: Properties<Row>) {
  const [chosen, choose] = useState(sort);
  const [all, setAll] = useState(false);
  const by = columns.find(({ name }) => name === chosen)?.by;
  const sorted = by ? [...rows].sort((a, b) => (by(b) ?? -1) - (by(a) ?? -1)) : rows;
  const shown = all ? sorted : sorted.slice(0, most);
  const kind = (column: Column<Row>) => [column.text ? "text" : "", column.wide ? "wide" : ""].join(" ").trim();
  return (
    <div class="table" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption class="unseen">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th
                key={column.name}
                scope="col"
                class={kind(column)}
                title={column.title}
                aria-sort={column.by && column.name === chosen ? "descending" : undefined}
              >
                {column.by ? (
                  <button type="button" onClick={() => choose(column.name)}>
                    {column.name}
                  </button>
                ) : (
                  column.name
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((row) => (
            <tr key={keyOf(row)}>
              {columns.map((column, at) =>
                at === 0 ? (
                  <th key={column.name} scope="row" class={kind(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.name} class={kind(column)}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
          {shown.length === 0 && (
            <tr>
              <td class="text" colSpan={columns.length}>
                {empty}
              </td>
            </tr>
          )}
        </tbody>
      </table>
      {sorted.length > most && (
        <button type="button" class="more" onClick={() => setAll(!all)}>
          {all ? `only the first ${most}` : `${sorted.length - most} more`}
        </button>
      )}
    </div>
  );
}
