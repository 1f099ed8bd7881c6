using Google.Protobuf.Collections;

namespace Ministries.Rules;

/// <summary>What the lists of a protobuf message lack.</summary>
public static class RepeatedFieldExtensions
{
    /// <summary>Leaves only the elements that are to be kept, in their order.</summary>
    /// <param name="list">The list.</param>
    /// <param name="kept">Whether an element is kept.</param>
    public static void Keep<T>(this RepeatedField<T> list, Func<T, bool> kept)
    {
        for (var i = list.Count - 1; i >= 0; i--)
            if (!kept(list[i]))
                list.RemoveAt(i);
    }
}
