// Names, which may be long and may lead somewhere: lines end where a part of one does.
import { type Who, keyOf } from "./api";
import { linkTo } from "./ways";

/** What stays together on a line: up to a slash or a dash, and no more than a phone has room for, as a container's id is. */
export const partsOf = (name: string): string[] => name.split(/(?<=.[/_-])(?=.)/).flatMap((part) => part.match(/.{1,20}/gsu) ?? []);

export function Name({ of, way }: { of: string; way?: string | undefined }) {
  const parts = partsOf(of).flatMap((part, at) => (at > 0 ? [<wbr />, part] : [part]));
  return way === undefined ? <>{parts}</> : <a href={way}>{parts}</a>;
}

/** An entity's, which leads to all of it. */
export function EntityName({ who }: { who: Who }) {
  return <Name of={keyOf(who)} way={linkTo(keyOf(who))} />;
}
