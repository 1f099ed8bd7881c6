using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Fixtures;

/// <summary>Compares a record with what a reader is shown of it.</summary>
public static class Withholding
{
    /// <summary>The paths of fields that are shown incompletely without being marked as withheld. If elements of a list are left out, the
    /// shown ones are matched by their content.</summary>
    public static IEnumerable<string> Unmarked(IMessage whole, IMessage shown, string path = "")
    {
        var marked = shown.Descriptor.FindFieldByName("withheld") is { IsRepeated: true } field
            ? ((IList)field.Accessor.GetValue(shown)).Cast<string>().ToHashSet()
            : [];
        foreach (var unknown in marked.Where(m => shown.Descriptor.FindFieldByName(m) is null))
            yield return $"{path}{unknown} is no field";
        foreach (var f in shown.Descriptor.Fields.InFieldNumberOrder().Where(f => f.Name != "withheld"))
        {
            var (all, some) = (f.Accessor.GetValue(whole), f.Accessor.GetValue(shown));
            if (f.IsRepeated)
            {
                var (from, to) = (((IList)all).Cast<object>().ToList(), ((IList)some).Cast<object>().ToList());
                if (to.Count < from.Count && !marked.Contains(f.Name))
                    yield return $"{path}{f.Name}: {to.Count} of {from.Count}";
                if (f.FieldType != FieldType.Message || to.Count != from.Count)
                    continue;
                for (var i = 0; i < to.Count; i++)
                    foreach (var inner in Unmarked((IMessage)from[i], (IMessage)to[i], $"{path}{f.Name}[{i}]."))
                        yield return inner;
            }
            else if (f.FieldType == FieldType.Message)
            {
                if (all is null)
                    continue;
                if (some is null)
                {
                    if (!marked.Contains(f.Name))
                        yield return $"{path}{f.Name}";
                    continue;
                }
                foreach (var inner in Unmarked((IMessage)all, (IMessage)some, $"{path}{f.Name}."))
                    yield return inner;
            }
            else if (!Equals(all, some) && !marked.Contains(f.Name))
                yield return $"{path}{f.Name}";
        }
    }
}
