// Names, which may be long: lines end where a part of one does.

/** What stays together on a line: up to a slash or a dash. */
export const partsOf = (name: string): string[] => name.split(/(?<=.[/-])(?=.)/);

export function Name({ of }: { of: string }) {
  return (
    <>
      {partsOf(of).map((part, at) => (
        <>
          {at > 0 && <wbr />}
          {part}
        </>
      ))}
    </>
  );
}
